"""The checks of a file, evaluated with the values of a run: each with the value found and the value wanted."""

from __future__ import annotations

import contextlib
import csv
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.builder.references import ONE_ROW, one_value, picked, scalar_of
from pipeline.config.expressions.expression import Expression
from pipeline.config.model import Check, Reference
from pipeline.errors import Location, OpError
from pipeline.graph.collect import collect
from pipeline.graph.column_types import declared_type, family, type_name
from pipeline.graph.graph import Graph, Key
from pipeline.graph.value_types import PartsType
from pipeline.ops.elementwise.targets import evaluate_scalar
from pipeline.outputs.column_text import from_text, plain_texts
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
    """One check: its text, whether it passed, and a message with the value found (and, if it failed, wanted).

    Of a run that kept going it may be not ``evaluated``, since a value is missing; it has not passed then.
    """

    text: str
    ok: bool
    message: str
    location: Location = field(default=Location(), compare=False)
    evaluated: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain values."""
        return {"check": self.text, "ok": self.ok, "message": self.message, "evaluated": self.evaluated}

    def __str__(self) -> str:
        place = f"{self.location}: " if self.location.line else ""
        return f"{place}checks: {self.text}: {self.message}"


def evaluate(
    config: Any,
    graph: Graph,
    results: Mapping[Key, Any],
    *,
    missing: Mapping[str, str] | None = None,
    passed: Mapping[int, CheckResult] | None = None,
) -> tuple[CheckResult, ...]:
    """Evaluate every check of ``config``, also after one has failed.

    Parameters
    ----------
    missing : texts of the checks that can't be evaluated, each with the reason
    passed : position of a check that need not be evaluated again -> its result
    """
    missing, passed = missing or {}, passed or {}
    return tuple(
        passed[i]
        if i in passed
        else CheckResult(check.text, False, missing[check.text], check.location, evaluated=False)
        if check.text in missing
        else _evaluated(check, config.root, graph, results)
        for i, check in enumerate(config.checks)
    )


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
    value_type, names = graph.value_types[instance], list(reference.parts)
    while names and isinstance(value_type, PartsType):
        if names[0] not in value_type.parts:
            raise ValueError(
                f"{reference.text!r}: there is no part {names[0]!r}; there are {', '.join(value_type.parts)}"
            )
        value_type = value_type.parts[names.pop(0)]
    value = collect(value_type, results, frames="arrow")
    for name in names:
        value = _part(value, value_type.kind, name, reference)
    if reference.picks:
        value = picked(value, reference)
    return value


def _part(value: Any, kind: str, name: str, reference: Reference) -> Any:
    if kind == "items":
        return {key: item[name] for key, item in value.items()}
    if isinstance(value, pa.Table):
        if len(value) != 1:
            raise ValueError(f"{reference.text!r} needs a frame of one row; it has {len(value):,}: {ONE_ROW}")
        return one_value(value.column(name))
    return value[name]


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
    number = float("nan") if got is None else float(got)
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
    schema = _frame(value).schema
    got = {field.name: type_name(field.type) for field in schema}
    errors = [
        f"no column {name!r}" if name not in got else f"column {name!r} is {got[name]}, wanted {kind}"
        for name, kind in wanted.items()
        if name not in got or not _is_type(schema.field(schema.get_field_index(name)).type, kind)
    ]
    return not errors, "; ".join(errors) or f"got {', '.join(f'{name}: {got[name]}' for name in wanted)}"


def _frame(value: Any) -> pa.Table:
    if not isinstance(value, pa.Table):
        raise ValueError(f"this check is for a frame; got {type(value).__name__}")
    return value


def _is_type(kind: pa.DataType, name: str) -> bool:
    """Return whether a type is the one that a name of the language means; times in any unit."""
    t = pa.types
    try:
        wanted = declared_type("bool" if name == "boolean" else name, "columns")
    except OpError as error:
        raise ValueError(f"columns: {error.message}") from None
    if t.is_timestamp(kind) and t.is_timestamp(wanted):
        return bool(kind.tz == wanted.tz)
    return bool(kind == wanted or (family(kind) == family(wanted) and family(kind) in ("duration", "time of day")))


# ---------------------------------------------------------------------------------------------------------------------
# Rows of a CSV file
# ---------------------------------------------------------------------------------------------------------------------


def _equals_csv(check: Check, root: str, value: Any) -> tuple[bool, str]:
    got, path = _frame(value), Path(root, str(check.equals_csv))
    wanted = _texts_of_csv(path, check.sep)
    names = {name.lower(): name for name in got.column_names}
    missing = [name for name in wanted if name.lower() not in names]
    if missing or len(names) != len(wanted):
        return False, f"got the columns {' '.join(got.column_names)}, wanted {' '.join(wanted)}"
    pairs = {
        names[name.lower()]: _alike(got.column(names[name.lower()]), texts, exact=check.rel is None)
        for name, texts in wanted.items()
    }
    one, other = (pa.table({name: pair[i] for name, pair in pairs.items()}) for i in (0, 1))
    found = equal("frame", other, one, rtol=_REL if check.rel is None else check.rel)
    if found.same:
        return (
            True,
            f"got {len(got)} rows equal to {path.name} (largest relative difference {found.largest_relative:.2g})",
        )
    return False, f"got {len(got)} rows, wanted those of {path.name}: {found.message.removeprefix('.')}"


def _texts_of_csv(path: Path, sep: str) -> dict[str, pa.Array]:
    """Return the columns of a CSV file as text without blanks around it; columns without a name are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file, delimiter=sep) if row]
    if not rows:
        raise ValueError(f"{path} is empty; its first line has the names of the columns")
    names, n = [name.strip() for name in rows[0]], len(rows[0])
    long = next((i for i, row in enumerate(rows[1:], 1) if any(row[n:])), None)
    if long is not None:
        raise ValueError(f"{path}: row {long} has {len(rows[long])} fields, the first line {n} names")
    padded = [[*row, *[""] * (n - len(row))] for row in rows[1:]]
    return {name: pa.array([row[i].strip() for row in padded], pa.string()) for i, name in enumerate(names) if name}


def _alike(got: pa.ChunkedArray, texts: pa.Array, *, exact: bool) -> tuple[pa.Array, pa.Array]:
    """Return a column and the wanted text as two columns of one type.

    Floats may differ by the tolerance; whole numbers and decimals do not where ``exact`` and the file has such.
    """
    t, kind, values = pa.types, got.type, got.combine_chunks()
    present = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if t.is_boolean(kind):
        return pc.utf8_lower(plain_texts(values)).cast(pa.string()), pc.utf8_lower(texts)
    if t.is_floating(kind) or (not exact and family(kind) == "number"):
        return values.cast(pa.float64()), present.cast(pa.float64())
    if family(kind) in ("number", "date", "time", "zoned time", "duration", "time of day"):
        for zone in ("", "Z") if t.is_timestamp(kind) and kind.tz else ("",):
            with contextlib.suppress(ValueError):
                return values, from_text(pc.binary_join_element_wise(present, zone, ""), kind)
        if family(kind) == "number":
            return values.cast(pa.float64()), present.cast(pa.float64())
    return pc.utf8_trim_whitespace(pc.fill_null(plain_texts(values), "")).cast(pa.string()), texts
