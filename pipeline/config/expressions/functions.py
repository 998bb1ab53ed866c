"""The functions of the expression language: names, parameters, and where each may stand. No target is known here."""

from __future__ import annotations

import math
import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.tree import Bound, Call, Constant, Node, Outside, constant_kind
from pipeline.errors import nearest

__all__ = [
    "AGGREGATES",
    "FUNCTIONS",
    "Function",
    "Parameter",
    "Scope",
    "arguments",
    "cure",
    "duration",
    "evaluated",
    "habit",
    "moment",
    "no_aggregate",
]

Scope = Literal["arrays", "columns", "agg", "coords"]

_EVERYWHERE: frozenset[Scope] = frozenset({"arrays", "columns", "agg", "coords"})
_NO_ARRAYS: frozenset[Scope] = frozenset({"columns", "agg", "coords"})


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function.

    Parameters
    ----------
    kind : ``any`` for an expression; what a constant must be: ``int number text regex zone duration time choice``
    choices : of a ``choice``
    keyword : it may only be given by name
    """

    name: str
    kind: str = "any"
    required: bool = True
    choices: tuple[Any, ...] = ()
    keyword: bool = False


@dataclass(frozen=True)
class Function:
    """A function: its parameters, the scopes it may stand in, and what it gives.

    Parameters
    ----------
    result : ``same`` (as its first argument), ``number``, ``int``, ``bool``, ``text``, ``time`` or ``duration``
    variadic : the last parameter may be given more than once
    """

    name: str
    parameters: tuple[Parameter, ...]
    scopes: frozenset[Scope]
    result: str
    variadic: bool = False

    def __str__(self) -> str:
        names = (p.name if p.required else f"{p.name}=" for p in self.parameters)
        return f"{self.name}({', '.join(names)}{', …' if self.variadic else ''})"


def _function(text: str, scopes: frozenset[Scope], result: str, *more: Parameter) -> Function:
    """``round(x, n:int=)``: a parameter is an expression unless a kind is said; ``=`` makes it optional."""
    name, _, inside = text.rstrip(")").partition("(")
    parameters = []
    for word in filter(None, (w.strip() for w in inside.split(","))):
        if word != "…":
            label, _, kind = word.rstrip("=").partition(":")
            parameters.append(Parameter(label, kind or "any", required=not word.endswith("=")))
    return Function(name, (*parameters, *more), scopes, result, variadic="…" in inside)


def _table(rows: Mapping[str, str], scopes: frozenset[Scope]) -> dict[str, Function]:
    functions = [
        _function(text.replace(";", ","), scopes, result) for result, texts in rows.items() for text in texts.split()
    ]
    return {f.name: f for f in functions}


_ELEMENTWISE = _table(
    {
        "same": "abs(x) sign(x) floor(x) ceil(x) round(x;n:int=) minimum(a;b) maximum(a;b) clip(x;lo;hi) fill(x;v)",
        "number": "sqrt(x) exp(x) log(x) log10(x) sin(x) cos(x) tan(x) arcsin(x) arccos(x) arctan(x) arctan2(y;x) "
        "deg2rad(x) rad2deg(x) number(x)",
        "bool": "missing(x) isfinite(x) boolean(x)",
        "int": "integer(x)",
        "text": "text(x)",
    },
    _EVERYWHERE,
) | {"where": _function("where(c, a, b)", _EVERYWHERE, "second")}
_TIMES = _table(
    {
        "time": "date(text:time) timestamp(text:time) floor_time(t;length:duration)",
        "duration": "duration(text:duration)",
        "int": "year(t) month(t) day(t) hour(t) weekday(t) dayofyear(t)",
    },
    _EVERYWHERE,
)
_ZONES = {
    "localize": _function(
        "localize(t, zone:zone)",
        _NO_ARRAYS,
        "time",
        Parameter("ambiguous", "choice", required=False, choices=("NaT", "raise", True, False), keyword=True),
        Parameter(
            "nonexistent",
            "choice",
            required=False,
            choices=("NaT", "raise", "shift_forward", "shift_backward"),
            keyword=True,
        ),
    ),
    "convert": _function("convert(t, zone:zone)", _NO_ARRAYS, "time"),
}
_TEXTS = _table(
    {
        "bool": "contains(s;text:text) startswith(s;text:text) endswith(s;text:text) match(s;regex:regex)",
        "text": "lower(s) upper(s) strip(s) slice(s;i:int=;j:int=) replace(s;old:text;new:text) "
        "split(s;sep:text;i:int) extract(s;regex:regex) concat(a;b;…)",
        "int": "length(s)",
    },
    _NO_ARRAYS,
)
FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        **_ELEMENTWISE,
        **_TIMES,
        **_ZONES,
        "coord": _function("coord(x, name:text)", frozenset({"arrays"}), "number"),
        **_TEXTS,
    }
)
"""What may be called inside an expression, by name."""

AGGREGATES: Mapping[str, Function] = MappingProxyType(
    _table(
        {
            "same": "sum(x) min(x) max(x) first(x) last(x)",
            "number": "mean(x) median(x) quantile(x;q:number) std(x;ddof:int) var(x;ddof:int)",
            "int": "count(x=) nunique(x)",
            "bool": "any(x) all(x)",
        },
        frozenset({"agg"}),
    )
)
"""What may be called as the whole of an ``agg``, by name."""

# what people write from other languages: the cure in ours
_HABITS = {
    **dict.fromkeys(("isnan", "isnull", "isna", "is_null"), "missing(x)"),
    **dict.fromkeys(("notnull", "notna"), "not missing(x)"),
    **dict.fromkeys(("fillna", "coalesce", "ifnull", "nvl"), "fill(x, v)"),
    **dict.fromkeys(("if", "iif", "ifelse", "if_else", "case"), "where(c, a, b)"),
    **dict.fromkeys(("pow", "power"), "x ** y"),
    **dict.fromkeys(("isin",), "x in [1, 2]"),
    **dict.fromkeys(("ln",), "log(x)"),
    **dict.fromkeys(("len",), "length(s)"),
    **dict.fromkeys(("str",), "text(x)"),
    **dict.fromkeys(("int",), "integer(x)"),
    **dict.fromkeys(("float",), "number(x)"),
    **dict.fromkeys(("bool",), "boolean(x)"),
    **dict.fromkeys(("datetime", "to_datetime"), "timestamp('…')"),
    **dict.fromkeys(("timedelta",), "duration('5min')"),
    **dict.fromkeys(("mod",), "x % y"),
}
_NAMES = {
    **dict.fromkeys(("true", "false"), "what is true or false is written True, False"),
    **dict.fromkeys(("nan", "na", "nat", "null", "nil", "none"), "for what is missing write missing(x)"),
    **dict.fromkeys(("inf", "infinity"), "for what is infinite write not isfinite(x) and not missing(x)"),
    "pi": f"it is {math.pi}",
}


def habit(name: str) -> str:
    """``; for what is missing write missing(x)`` for a name that other languages have a value for; else empty."""
    return f"; {_NAMES[name.casefold()]}" if name.casefold() in _NAMES else ""


def cure(name: str, scope: Scope) -> str:
    """Why ``name(…)`` has no meaning in ``scope``, and what to write."""
    if name in AGGREGATES:
        pairwise = {"min": "; of two values: minimum(a, b)", "max": "; of two values: maximum(a, b)"}.get(name, "")
        if scope == "arrays":
            return f"'{name}' is an op, so that it has a name of its own: {{op: {name}, input: …}}{pairwise}"
        if scope == "agg":
            return f"'{name}' must be the outermost call, with one aggregate an entry; combine them in an assign behind"
        return f"'{name}' belongs into the agg of a groupby{pairwise}"
    if name in FUNCTIONS:
        if name == "coord":
            return "'coord' is for arrays; here a name is a column"
        return f"'{name}' works on columns and coordinates, not on arrays"
    if name in _HABITS:
        return f"'{name}' is no function; write {_HABITS[name]}"
    return f"'{name}' is no function{nearest(name, [n for n, f in FUNCTIONS.items() if scope in f.scopes])}"


def no_aggregate(name: str) -> str:
    """Why an ``agg`` that is not one of the aggregates, or calls ``name``, has no meaning, and what to write."""
    near = nearest(name, AGGREGATES) if name else ""
    if near:
        return f"'{name}' is no aggregate{near}"
    return f"an agg is one aggregate of an expression, sum(a * b); the aggregates are {', '.join(AGGREGATES)}"


def arguments(call: Call) -> Call:
    """``call`` with its keywords put among the positional arguments, as far as that goes, and its constants checked.

    Arguments that must be constants may still be ``${…}``; check again when they are bound.

    Raises
    ------
    ExpressionError : if the number, a name or a constant does not fit
    """
    function = FUNCTIONS.get(call.function) or AGGREGATES[call.function]
    positional = [p for p in function.parameters if not p.keyword]
    args, keywords = list(call.args), dict(call.keywords)
    while len(args) < len(positional) and positional[len(args)].name in keywords:
        args.append(keywords.pop(positional[len(args)].name))
    for name in keywords:
        if name not in {p.name for p in function.parameters}:
            raise ExpressionError(f"{function} has no parameter '{name}'; to compare write '=='", call.column)
    least = sum(p.required for p in positional)
    too_many = len(args) > len(positional) and not function.variadic
    if len(args) < least or too_many or any(p.name in keywords for p in positional):
        hint = "; numpy and pandas differ, so ddof has no default" if call.function in {"std", "var"} else ""
        several = "argument" if len(args) == 1 else "arguments"
        raise ExpressionError(f"got {len(args)} {several}; write {function}{hint}", call.column)
    for parameter, node in [
        *zip(positional, args, strict=False),
        *((p, keywords[p.name]) for p in function.parameters if p.name in keywords),
    ]:
        _check(function, parameter, node, call.column)
    return Call(call.function, tuple(args), tuple(sorted(keywords.items())), call.column)


def _check(function: Function, parameter: Parameter, node: Node, column: int) -> None:
    if parameter.kind == "any":
        return
    if not isinstance(node, Constant):
        if isinstance(node, Outside):
            return
        if isinstance(node, Bound) and parameter.kind not in {"zone", "choice"}:
            return
        if isinstance(node, Bound):
            raise ExpressionError(
                f"'{parameter.name}' of {function} must be known before the run: the type of the result depends on it",
                column,
            )
        raise ExpressionError(f"'{parameter.name}' of {function} must be a constant", column)
    fault = _fault(parameter, node.value)
    if fault:
        raise ExpressionError(f"'{parameter.name}' of {function}: {fault}", column)


def _fault(parameter: Parameter, value: Any) -> str:
    """Why ``value`` cannot be given for ``parameter``; empty where it can."""
    kind, said = parameter.kind, constant_kind(value)
    if kind == "int":
        return "" if isinstance(value, int) and said == "number" else f"got {value!r}; it must be a whole number"
    if kind == "number":
        if said != "number":
            return f"got {value!r}; it must be a number"
        return "" if parameter.name != "q" or 0 <= value <= 1 else f"got {value!r}; it must lie between 0 and 1"
    if kind == "choice":
        fits = any(value == c and type(value) is type(c) for c in parameter.choices)
        return "" if fits else f"got {value!r}; it must be one of {', '.join(map(repr, parameter.choices))}"
    if kind == "time" and said in {"time", "zoned time"}:
        return ""
    if not isinstance(value, str):
        return f"got {value!r}; it must be text, in single quotes"
    try:
        _TEXT_CHECKS[kind](value)
    except ExpressionError as error:
        return error.message
    return ""


def _regex(text: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise ExpressionError(f"got {text!r}, which is no regular expression: {error}") from None


def _zone(text: str) -> None:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ExpressionError(f"got {text!r}, which is no time zone; write 'UTC', 'Europe/Paris' …") from None


# ---------------------------------------------------------------------------------------------------------------------
# Times as constants
# ---------------------------------------------------------------------------------------------------------------------

_UNITS = {
    **dict.fromkeys(("us",), 1e-6),
    **dict.fromkeys(("ms",), 1e-3),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}
_LENGTH = re.compile(r"([+-]?\d+(?:\.\d+)?)?\s*([A-Za-z]+)\s*")


def duration(text: str) -> timedelta:
    """A length of time: ``5min``, ``1h 30min``, ``2d``; a unit alone counts once.

    Raises
    ------
    ExpressionError : if it is none

    >>> duration("1h 30min")
    datetime.timedelta(seconds=5400)
    """
    position, seconds, stripped = 0, 0.0, text.strip()
    while position < len(stripped):
        found = _LENGTH.match(stripped, position)
        if found is None or found.group(2).lower() not in _UNITS:
            raise ExpressionError(f"got {text!r}; a length of time is written '5min', '1h', '2d' (us ms s min h d w)")
        seconds += float(found.group(1) or 1) * _UNITS[found.group(2).lower()]
        position = found.end()
    if not stripped or not math.isfinite(seconds) or abs(seconds) > 1e11:
        raise ExpressionError(f"got {text!r}; a length of time is written '5min', '1h', '2d'")
    return timedelta(seconds=seconds)


def _length(text: str) -> None:
    duration(text)


def moment(value: Any) -> datetime:
    """A time from its ISO text (``1995-03-15``, ``1995-03-15 12:30``, with ``Z`` or an offset: zoned), or from a date.

    Raises
    ------
    ExpressionError : if it is none
    """
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        return datetime.fromisoformat(value.strip())
    except (ValueError, AttributeError):
        raise ExpressionError(f"got {value!r}; a time is written '1995-03-15' or '1995-03-15 12:30:00'") from None


def _moment(text: str) -> None:
    moment(text)


_TEXT_CHECKS = {
    "text": lambda text: None,
    "regex": _regex,
    "zone": _zone,
    "duration": _length,
    "time": _moment,
}


def evaluated(call: Call) -> Node:
    """``date('…')``, ``timestamp('…')``, ``duration('…')`` of a Constant as a Constant; any other call as it is."""
    if call.function not in {"date", "timestamp", "duration"} or not isinstance(call.args[0], Constant):
        return call
    value = call.args[0].value
    try:
        if call.function == "duration":
            return Constant(duration(value))
        when = moment(value)
    except ExpressionError as error:
        raise ExpressionError(error.message, call.column) from None
    if call.function == "date" and (when.hour or when.minute or when.second or when.microsecond or when.tzinfo):
        raise ExpressionError(f"got {value!r}; date takes a day, timestamp('…') a time of day", call.column)
    return Constant(when)
