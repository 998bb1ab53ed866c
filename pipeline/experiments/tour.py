"""The tour: claims about threads and processes, each a file that this machine answers.

A file says what is claimed in its ``description``. It is compared, and its ``compare: claims`` are judged by what was
measured; a file without them is run, and its ``checks`` are the claim.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.backends.local.child_processes import count_cores
from pipeline.config.loader import load
from pipeline.config.model import Config
from pipeline.errors import CheckError, ConfigError, PipelineError, nearest
from pipeline.experiments.comparison.claims import FALSE, NOT_SHOWN, TRUE
from pipeline.experiments.comparison.compare import compare
from pipeline.experiments.comparison.result import Comparison, JudgedClaim
from pipeline.runs.run import run

__all__ = ["SECONDS", "Stop", "claims", "machine", "tour"]

SECONDS = 180.0
"""Seconds that the whole tour may take by default: fewer rounds are made if it would take longer."""
_LEAST = 8.0  # seconds that are kept for each of the claims to come


@dataclass(frozen=True)
class Stop:
    """One claim of the tour.

    Parameters
    ----------
    name : of its file, without number and suffix
    claim : what is claimed, in a sentence
    verdict : ``true here``, ``false here``, ``no difference shown``, or why it did not run
    judged : what was measured, for files that compare
    checks : what was found to hold, or not to hold, for files that are run
    comparison : of files that compare
    seconds : that it took
    """

    name: str
    claim: str
    verdict: str
    judged: tuple[JudgedClaim, ...] = ()
    checks: tuple[str, ...] = ()
    comparison: Comparison | None = None
    seconds: float = 0.0

    @property
    def ran(self) -> bool:
        """Whether there is a verdict on the claim."""
        return self.verdict in (TRUE, FALSE, NOT_SHOWN)


def claims() -> dict[str, Path]:
    """Return the files of the tour by name, in their order.

    Raises
    ------
    ConfigError : if they are not there: they belong to a clone, not to the package
    """
    folder = Path(__file__).parents[2] / "configs" / "tour"
    found = sorted(folder.glob("*.yaml"))
    if not found:
        raise ConfigError(f"the files of the tour are not in {folder}; run it in a clone of the repository")
    return {path.stem.partition("-")[2]: path for path in found}


def machine() -> str:
    """Return on what the claims are tried."""
    n = count_cores()
    return f"{n} core{'s' * (n != 1)}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"


def tour(
    names: Sequence[str] = (),
    *,
    seconds: float = SECONDS,
    runs: str | Path = "runs",
    tell: Callable[[str], None] | None = None,
) -> Iterator[Stop]:
    """Try the claims, one after the other, and yield each with its verdict.

    Parameters
    ----------
    names : of the claims to try; none: all
    seconds : that all of them may take
    runs : folder of the run folders
    tell : called with lines of text about the progress

    Raises
    ------
    ConfigError : if there is no such claim
    """
    files = claims()
    for name in names:
        if name not in files:
            raise ConfigError(f"tour: got {name!r}; there are {', '.join(files)}{nearest(name, files)}")
    return _all_tried({name: files[name] for name in names or files}, seconds, runs, tell)


def _all_tried(
    files: Mapping[str, Path], seconds: float, runs: str | Path, tell: Callable[[str], None] | None
) -> Iterator[Stop]:
    end = time.perf_counter() + seconds
    for i, (name, path) in enumerate(files.items()):
        began = time.perf_counter()
        left = end - began - _LEAST * (len(files) - i - 1)
        yield _tried(name, load(str(path)), max(1.0, left), runs, tell, began)


def _tried(
    name: str, config: Config, budget: float, runs: str | Path, tell: Callable[[str], None] | None, began: float
) -> Stop:
    found = Stop(name, config.description, "")
    try:
        if config.compare.get("claims"):
            comparison = compare(config, budget=budget, runs=runs, try_seconds=0.0, tell=tell)
            verdict = _together([claim.verdict for claim in comparison.claims])
            if comparison.unequal:
                verdict = f"the results differ: {comparison.unequal[0][1].message}"
            found = replace(found, verdict=verdict, judged=comparison.claims, comparison=comparison)
        else:
            backend = next(iter(config.compare.get("backends", ())), "serial")
            out = Path(runs, config.name)
            alone = replace(config, cache=None)  # a tour measures; nothing is kept of it
            done = run(alone, backend=backend, runs=runs, out=out, force=True, listener=_silent)
            found = replace(found, verdict=TRUE, checks=tuple(check.text for check in done.checks))
    except CheckError as error:
        found = replace(found, verdict=FALSE, checks=tuple(str(error).splitlines()[:-1]))
    except PipelineError as error:
        found = replace(found, verdict=f"did not run: {error}")
    return replace(found, seconds=time.perf_counter() - began)


def _silent(event: object) -> None:
    """Show nothing of a run."""


def _together(verdicts: Sequence[str]) -> str:
    """Return the verdict on a file from those on its claims: the worst of them."""
    other = next((verdict for verdict in verdicts if verdict not in (TRUE, FALSE, NOT_SHOWN)), None)
    if other is not None:
        return other
    return next((verdict for verdict in (FALSE, NOT_SHOWN) if verdict in verdicts), TRUE)
