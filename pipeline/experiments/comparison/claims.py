"""Judge what is claimed of back ends by what was measured."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.errors import ConfigError, nearest
from pipeline.experiments.comparison.result import JudgedClaim, Measurement
from pipeline.trace.statistics import Interval, median_interval, ratio_interval

__all__ = ["FALSE", "NOT_SHOWN", "TRUE", "check_labels", "judged"]

TRUE, FALSE, NOT_SHOWN = "true here", "false here", "no difference shown"

_MEASURES: Mapping[str, Callable[[Measurement], float]] = {
    "elapsed": lambda m: m.elapsed,
    "total": lambda m: m.everything,
    "start_up": lambda m: m.start_up,
    "cpu": lambda m: m.user + m.system,
    "cores": lambda m: (m.user + m.system) / m.elapsed,
    "memory": lambda m: m.memory,
}
_NAMES = {"start_up": "start-up", "total": "time with start-up", "cpu": "CPU time", "elapsed": "time"}
_FEWEST = 3  # rounds from which anything is shown
_BOUNDS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def check_labels(claims: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> None:
    """Check that claims are about back ends that are compared.

    Raises
    ------
    ConfigError : if one is not
    """
    for i, claim in enumerate(claims):
        for key in ("of", "to"):
            name = claim.get(key)
            if name is not None and name not in labels:
                raise ConfigError(
                    f"compare.claims[{i}].{key}: {name!r} is not compared; there are {', '.join(labels)}"
                    f"{nearest(name, labels)}"
                )


def judged(
    claims: Sequence[Mapping[str, Any]], measurements: Sequence[Measurement], failures: Mapping[str, str]
) -> tuple[JudgedClaim, ...]:
    """Judge claims.

    Parameters
    ----------
    claims : as :class:`pipeline.config.sections.keys.Claim` has them
    failures : label of a back end that did not run -> why
    """
    return tuple(_judged(claim, measurements, failures) for claim in claims)


def _judged(claim: Mapping[str, Any], measurements: Sequence[Measurement], failures: Mapping[str, str]) -> JudgedClaim:
    measure, of, to = claim.get("measure", "elapsed"), claim["of"], claim.get("to")
    name = _NAMES.get(measure, measure)
    what = f"{name} of {of}" + (f" / {to}" if to is not None else "")
    bound = " ".join(str(claim["value"]).split())
    labels = (of,) if to is None else (of, to)
    failed = next((label for label in labels if label in failures), None)
    if failed is not None:
        return JudgedClaim(claim["claim"], labels, what, None, bound, f"{failed} did not run: {failures[failed]}")
    values = {label: [_MEASURES[measure](m) for m in measurements if m.case == label] for label in labels}
    interval = ratio_interval(values[of], values[to]) if to is not None else median_interval(values[of])
    return JudgedClaim(claim["claim"], labels, what, interval, bound, _verdict(interval, bound))


def _verdict(interval: Interval, bound: str) -> str:
    """Return whether all, none or some of an interval is within a bound."""
    match = re.fullmatch(r"([<>]=?)\s*([\d.]+)", bound)
    assert match is not None, bound
    holds, limit = _BOUNDS[match[1]], float(match[2])
    if interval.n < _FEWEST:
        return NOT_SHOWN
    low, high = holds(interval.low, limit), holds(interval.high, limit)
    return TRUE if low and high else FALSE if not low and not high else NOT_SHOWN
