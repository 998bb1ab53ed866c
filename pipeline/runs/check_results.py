"""The checks of a file, evaluated with the values of a run: each with the value found and the value wanted."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.builder.references import picked, scalar_of
from pipeline.config.expressions.expression import Expression
from pipeline.config.model import Check, Reference
from pipeline.errors import Location
from pipeline.graph.collect import collect
from pipeline.graph.graph import Graph, Key
from pipeline.graph.value_types import PartsType
from pipeline.ops.elementwise.targets import evaluate_scalar
from pipeline.runs.equality import equal
from pipeline.units import count_text

__all__ = ["CheckResult", "evaluate", "value_of"]

_REL = 1e-9  # relative tolerance of a check with neither abs nor rel
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class CheckResult:
    """One check: its text, whether it passed, and a message with the value found (and, if it failed, wanted)."""

    text: str
    ok: bool
    message: str
    location: Location = field(default=Location(), compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain values."""
        return {"check": self.text, "ok": self.ok, "message": self.message}

    def __str__(self) -> str:
        place = f"{self.location}: " if self.location.line else ""
        return f"{place}checks: {self.text}: {self.message}"


def evaluate(config: Any, graph: Graph, results: Mapping[Key, Any]) -> tuple[CheckResult, ...]:
    """Evaluate every check of ``config``, also after one has failed."""
    return tuple(_evaluated(check, config.root, graph, results) for check in config.checks)


def _evaluated(check: Check, root: str, graph: Graph, results: Mapping[Key, Any]) -> CheckResult:
    try:
        ok, message = _outcome(check, root, _value(check, graph, results))
    except (ValueError, TypeError, KeyError, ArithmeticError, OSError) as error:
        ok, message = False, f"can't be evaluated: {type(error).__name__}: {error}"
    return CheckResult(check.text, ok, message, check.location)


def _value(check: Check, graph: Graph, results: Mapping[Key, Any]) -> Any:
    if isinstance(check.that, Expression):
        bound = [scalar_of(r.text, value_of(r, graph, results)) for r in check.that.references]
        return evaluate_scalar(check.that, bound)
    return value_of(check.that, graph, results)


def value_of(reference: Reference, graph: Graph, results: Mapping[Key, Any]) -> Any:
    """Return the value of a reference from the results of a run, in memory; gathered instances as a list."""
    values = [_instance(instance, reference, graph, results) for instance in reference.instances]
    return values if reference.gathered else values[0]


def _instance(instance: str, reference: Reference, graph: Graph, results: Mapping[Key, Any]) -> Any:
    value_type, part = graph.value_types[instance], reference.part
    if part and isinstance(value_type, PartsType):
        if part not in value_type.parts:
            raise ValueError(f"{reference.text!r}: there is no such part; there are {', '.join(value_type.parts)}")
        value, part = collect(value_type.parts[part], results), ""
    else:
        value = collect(value_type, results)
    if part:
        value = _part(value, value_type.kind, reference)
    if reference.picks:
        value = picked(value, reference)
    return value


def _part(value: Any, kind: str, reference: Reference) -> Any:
    if kind == "items":
        return {key: item[reference.part] for key, item in value.items()}
    if isinstance(value, pd.DataFrame):
        if len(value) != 1:
            raise ValueError(f"{reference.text!r} needs a frame of one row; it has {len(value)}")
        return value[reference.part].iloc[0]
    return value[reference.part]


# ---------------------------------------------------------------------------------------------------------------------
# Kinds of checks
# ---------------------------------------------------------------------------------------------------------------------


def _outcome(check: Check, root: str, value: Any) -> tuple[bool, str]:
    outcomes = []
    if check.approx is not None:
        outcomes.append(_approx(check, value))
    if check.equals_csv is not None:
        outcomes.append(_equals_csv(check, root, value))
    if check.rows is not None:
        outcomes.append(_rows(check.rows, value))
    if check.columns is not None:
        outcomes.append(_columns(check.columns, value))
    if not outcomes:
        got = scalar_of(check.text, value)
        shown = got if isinstance(got, np.generic) else repr(got)
        outcomes.append((got is True or (isinstance(got, np.bool_) and bool(got)), f"got {shown}, wanted true"))
    failed = [message for ok, message in outcomes if not ok]
    return not failed, "; ".join(failed or [message for _, message in outcomes])


def _approx(check: Check, value: Any) -> tuple[bool, str]:
    got, wanted = scalar_of(check.text, value), float(check.approx or 0.0)
    rel = _REL if check.rel is None and check.abs is None else check.rel or 0.0
    allowed = max(check.abs or 0.0, rel * abs(wanted))
    number = float(got)
    ok = abs(number - wanted) <= allowed
    return ok, f"got {number:.10g}, wanted {wanted:.10g} within {allowed:.3g} (off by {abs(number - wanted):.3g})"


def _rows(wanted: str, value: Any) -> tuple[bool, str]:
    match = re.fullmatch(r"\s*(>=|<=|==|!=|>|<)?\s*(\d[\d_]*)\s*", str(wanted))
    if match is None:
        raise ValueError(f'rows: got {wanted!r}; allowed is a comparison with a whole number: ">= 1"')
    n = len(value)
    ok = _COMPARE[match[1] or "=="](n, int(match[2]))
    return ok, f"got {count_text(n, 'row')}, wanted {wanted}"


def _columns(wanted: Mapping[str, str], value: Any) -> tuple[bool, str]:
    got = {str(name): str(dtype) for name, dtype in _frame(value).dtypes.items()}
    errors = [
        f"no column {name!r}" if name not in got else f"column {name!r} is {got[name]}, wanted {kind}"
        for name, kind in wanted.items()
        if name not in got or not _is_type(value[name].dtype, kind)
    ]
    return not errors, "; ".join(errors) or f"got {', '.join(f'{name}: {got[name]}' for name in wanted)}"


def _frame(value: Any) -> pd.DataFrame:
    if not isinstance(value, pd.DataFrame):
        raise ValueError(f"this check is for a frame; got {type(value).__name__}")
    return value


def _is_type(dtype: Any, kind: str) -> bool:
    if kind == "string":
        return bool(pd.api.types.is_string_dtype(dtype))
    if kind.startswith("timestamp"):
        zone = kind[len("timestamp") :].strip("[]")
        return bool(pd.api.types.is_datetime64_any_dtype(dtype)) and str(getattr(dtype, "tz", "") or "") == zone
    if kind in ("bool", "boolean"):
        return bool(pd.api.types.is_bool_dtype(dtype))
    return str(dtype).lower() == kind.lower()


def _equals_csv(check: Check, root: str, value: Any) -> tuple[bool, str]:
    got = _frame(value)
    path = Path(root, str(check.equals_csv))
    wanted = pd.read_csv(path, sep=check.sep, dtype=str, keep_default_na=False, engine="python")
    wanted.columns = [str(name).strip() for name in wanted.columns]
    wanted = wanted[[name for name in wanted.columns if name and not name.startswith("Unnamed:")]]
    names = {str(name).lower(): name for name in got.columns}
    missing = [name for name in wanted.columns if name.lower() not in names]
    if missing or len(names) != len(wanted.columns):
        return False, f"got the columns {' '.join(map(str, got.columns))}, wanted {' '.join(wanted.columns)}"
    got = got[[names[name.lower()] for name in wanted.columns]].copy()
    wanted.columns = got.columns
    for name in got.columns:
        got[name], wanted[name] = _alike(got[name], wanted[name].str.strip())
    rel = _REL if check.rel is None else check.rel
    found = equal("frame", wanted, got, rtol=rel)
    if found.same:
        return (
            True,
            f"got {len(got)} rows equal to {path.name} (largest relative difference {found.largest_relative:.2g})",
        )
    return False, f"got {len(got)} rows, wanted those of {path.name}: {found.message.removeprefix('.')}"


def _alike(got: Any, text: Any) -> tuple[Any, Any]:
    """Return a column and the wanted text as two columns of one type; all numbers become floats."""
    if pd.api.types.is_bool_dtype(got):
        return got.astype(str).str.lower(), text.str.lower()
    if pd.api.types.is_numeric_dtype(got):
        return got.astype("float64"), pd.to_numeric(text.replace("", None)).astype("float64")
    if pd.api.types.is_datetime64_any_dtype(got):
        zoned = got.dt.tz is not None
        times = pd.to_datetime(text.replace("", None), format="ISO8601", utc=zoned)
        return got.astype("datetime64[ns, UTC]" if zoned else "datetime64[ns]"), times.astype(
            "datetime64[ns, UTC]" if zoned else "datetime64[ns]"
        )
    return got.astype(object).where(got.notna(), "").map(str).str.strip(), text
