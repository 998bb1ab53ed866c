"""The table of functions and aggregates: their parameters, scopes and result types; checks calls against it."""

from __future__ import annotations

import math
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import parse_duration, parse_time
from pipeline.config.expressions.tree import BoundValue, Call, Constant, Node, Placeholder, constant_kind
from pipeline.errors import nearest
from pipeline.units import count_text

__all__ = [
    "AGGREGATES",
    "FUNCTIONS",
    "Function",
    "Parameter",
    "Scope",
    "aggregate_error",
    "bind_arguments",
    "call_error",
    "fold_time_literal",
    "name_hint",
]

Scope = Literal["arrays", "columns", "agg", "coords"]

_EVERYWHERE: frozenset[Scope] = frozenset({"arrays", "columns", "agg", "coords"})
_NO_ARRAYS: frozenset[Scope] = frozenset({"columns", "agg", "coords"})


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function.

    Parameters
    ----------
    kind : ``any``: any expression; else the argument must be a constant of this kind:
        ``int number text regex zone duration time choice``
    choices : the allowed values of a ``choice``
    keyword : whether it is keyword-only
    """

    name: str
    kind: str = "any"
    required: bool = True
    choices: tuple[Any, ...] = ()
    keyword: bool = False


@dataclass(frozen=True)
class Function:
    """A function of the expression language.

    Parameters
    ----------
    scopes : the kinds of expressions that may call it
    result : its result type: ``same`` (as the first argument), ``second`` (as the second), ``number``, ``int``,
        ``bool``, ``text``, ``time`` or ``duration``
    variadic : whether the last parameter may be given more than once
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
    """Return the function that a text such as ``round(x, n:int=)`` declares.

    ``name:kind`` declares a parameter that must be a constant, ``=`` an optional one, ``…`` a variadic last one.
    """
    name, _, inside = text.rstrip(")").partition("(")
    parameters = []
    for word in filter(None, (w.strip() for w in inside.split(","))):
        if word != "…":
            label, _, kind = word.rstrip("=").partition(":")
            parameters.append(Parameter(label, kind or "any", required=not word.endswith("=")))
    return Function(name, (*parameters, *more), scopes, result, variadic="…" in inside)


def _table(declarations: Mapping[str, str], scopes: frozenset[Scope]) -> dict[str, Function]:
    """Return functions by name, from result type -> declarations separated by spaces, with ``;`` between parameters."""
    functions = [
        _function(text.replace(";", ","), scopes, result)
        for result, texts in declarations.items()
        for text in texts.split()
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
"""The functions that an expression may call, by name."""

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
"""The aggregates, by name; an ``agg`` is a call of one of them."""

# names of functions in other languages -> what to write here
_FOREIGN_FUNCTIONS = {
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
# names of constants in other languages -> a hint
_FOREIGN_CONSTANTS = {
    **dict.fromkeys(("true", "false"), "write True or False"),
    "nan": "for a missing value of floats write nan",
    **dict.fromkeys(
        ("na", "nat", "null", "nil", "none"), "for a missing value write missing, to ask for it missing(x)"
    ),
    **dict.fromkeys(("inf", "infinity"), "for an infinite value write not isfinite(x) and not missing(x)"),
    "pi": f"write {math.pi}",
}


def name_hint(name: str) -> str:
    """Return ``; for a missing value write missing, …`` for a name such as ``null``; empty for any other name."""
    return f"; {_FOREIGN_CONSTANTS[name.casefold()]}" if name.casefold() in _FOREIGN_CONSTANTS else ""


def call_error(name: str, scope: Scope) -> str:
    """Return the message for a call of ``name`` that ``scope`` does not allow, with what to write instead."""
    if name in AGGREGATES:
        pairwise = {"min": "; of two values: minimum(a, b)", "max": "; of two values: maximum(a, b)"}.get(name, "")
        if scope == "arrays":
            return f"'{name}' is an op; write a step of its own: {{op: {name}, input: …}}{pairwise}"
        if scope == "agg":
            return (
                f"'{name}' must be the outermost call, one aggregate in each entry; combine aggregates in an assign "
                "after the groupby"
            )
        return f"'{name}' is an aggregate, which is only allowed in the agg of a groupby{pairwise}"
    if name in FUNCTIONS:
        if name == "coord":
            return "'coord' is only for arrays; here a bare name is a column"
        return f"'{name}' is for columns and coordinates, not for arrays"
    if name in _FOREIGN_FUNCTIONS:
        return f"unknown function '{name}'; write {_FOREIGN_FUNCTIONS[name]}"
    return f"unknown function '{name}'{nearest(name, [n for n, f in FUNCTIONS.items() if scope in f.scopes])}"


def aggregate_error(name: str) -> str:
    """Return the message for an ``agg`` that calls ``name`` (empty: calls nothing), which is not an aggregate."""
    near = nearest(name, AGGREGATES) if name else ""
    if near:
        return f"unknown aggregate '{name}'{near}"
    return f"an agg is one aggregate of an expression, such as sum(a * b); aggregates: {', '.join(AGGREGATES)}"


def bind_arguments(call: Call) -> Call:
    """Return the call with keyword arguments moved to their positions where possible, and its constants checked.

    An argument that must be a constant may still be a placeholder; call this again once it has a value.

    Raises
    ------
    ExpressionError : for a wrong number of arguments, an unknown keyword, or a constant of the wrong kind
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
        raise ExpressionError(f"got {count_text(len(args), 'argument')}; write {function}{hint}", call.column)
    for parameter, node in [
        *zip(positional, args, strict=False),
        *((p, keywords[p.name]) for p in function.parameters if p.name in keywords),
    ]:
        _check_argument(function, parameter, node, call.column)
    return Call(call.function, tuple(args), tuple(sorted(keywords.items())), call.column)


def _check_argument(function: Function, parameter: Parameter, node: Node, column: int) -> None:
    if parameter.kind == "any" or isinstance(node, Placeholder):
        return
    if isinstance(node, BoundValue):
        if parameter.kind not in {"zone", "choice"}:
            return
        raise ExpressionError(
            f"'{parameter.name}' of {function} must be known before the run: the type of the result depends on it",
            column,
        )
    if not isinstance(node, Constant):
        raise ExpressionError(f"'{parameter.name}' of {function} must be a constant", column)
    error = _constant_error(parameter, node.value)
    if error:
        raise ExpressionError(f"'{parameter.name}' of {function}: {error}", column)


def _constant_error(parameter: Parameter, value: Any) -> str:
    """Return why ``value`` is not allowed for ``parameter``; empty if it is."""
    kind, value_kind = parameter.kind, constant_kind(value)
    if kind == "int":
        is_whole = isinstance(value, int) and value_kind == "number"
        return "" if is_whole else f"got {value!r}; it must be a whole number"
    if kind == "number":
        if value_kind != "number":
            return f"got {value!r}; it must be a number"
        return "" if parameter.name != "q" or 0 <= value <= 1 else f"got {value!r}; it must be between 0 and 1"
    if kind == "choice":
        # type first: True == 1, and only one of them is a choice
        allowed = any(type(value) is type(c) and value == c for c in parameter.choices)
        return "" if allowed else f"got {value!r}; it must be one of {', '.join(map(repr, parameter.choices))}"
    if kind == "time" and value_kind in {"time", "zoned time"}:
        return ""
    if not isinstance(value, str):
        return f"got {value!r}; it must be text, in single quotes"
    try:
        if kind in _TEXT_CHECKS:
            _TEXT_CHECKS[kind](value)
    except ExpressionError as error:
        return error.message
    return ""


def _check_regex(text: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise ExpressionError(f"got {text!r}, which is not a valid regular expression: {error}") from None


def _check_zone(text: str) -> None:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ExpressionError(f"got {text!r}, which is not a known time zone; write 'UTC', 'Europe/Paris' …") from None


_TEXT_CHECKS: Mapping[str, Callable[[str], object]] = {
    "regex": _check_regex,
    "zone": _check_zone,
    "duration": parse_duration,
    "time": parse_time,
}


def fold_time_literal(call: Call) -> Node:
    """Return the Constant of ``date('…')``, ``timestamp('…')`` or ``duration('…')``; any other call unchanged."""
    if call.function not in {"date", "timestamp", "duration"} or not isinstance(call.args[0], Constant):
        return call
    value = call.args[0].value
    try:
        if call.function == "duration":
            return Constant(parse_duration(value))
        time = parse_time(value)
    except ExpressionError as error:
        raise ExpressionError(error.message, call.column) from None
    if call.function == "date" and (time.hour or time.minute or time.second or time.microsecond or time.tzinfo):
        raise ExpressionError(f"got {value!r}; date takes a day, timestamp('…') a time of day", call.column)
    return Constant(time)
