"""The table of functions and aggregates: their parameters, scopes and result types; checks calls against it."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from pipeline.config.expressions.foreign_words import (
    FOREIGN_CONSTANTS,
    FOREIGN_FUNCTIONS,
    FOREIGN_IN_WINDOWS,
    PARTS_OF_TIMES,
)
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.time_literals import Months, parse_duration, parse_period, parse_time
from pipeline.config.expressions.tree import BoundValue, Call, Constant, Name, Node, Placeholder, constant_kind
from pipeline.errors import nearest
from pipeline.units import count_text

__all__ = [
    "AGGREGATES",
    "CALLABLE",
    "FUNCTIONS",
    "WINDOWS",
    "Function",
    "Parameter",
    "Scope",
    "aggregate_error",
    "bind_arguments",
    "call_error",
    "fold_time_literal",
    "name_hint",
]

Scope = Literal["arrays", "columns", "agg", "coords", "window"]

_EVERYWHERE: frozenset[Scope] = frozenset({"arrays", "columns", "agg", "coords", "window"})
_NO_ARRAYS: frozenset[Scope] = frozenset({"columns", "agg", "coords", "window"})


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function.

    Parameters
    ----------
    kind : ``any``: any expression; else the argument must be a constant of this kind:
        ``int number text texts regex zone duration period time format choice``
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
        "time": "date(text:time) timestamp(text:time) floor_time(t;length:period)",
        "int": "year(t) quarter(t) month(t) isoweek(t) day(t) hour(t) minute(t) second(t) weekday(t) dayofyear(t)",
    },
    _EVERYWHERE,
) | {
    "duration": _function(
        "duration(text:duration=)",
        _EVERYWHERE,
        "duration",
        *(Parameter(name, "int", required=False, keyword=True) for name in ("years", "quarters", "months")),
    )
}
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
    "strftime": _function("strftime(t, format:format)", _NO_ARRAYS, "text"),
    "parse_time": _function(
        "parse_time(s, formats:texts)",
        _NO_ARRAYS,
        "time",
        Parameter("errors", "choice", required=False, choices=("fail", "missing"), keyword=True),
    ),
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
            "same": "sum(x) min(x) max(x) first(x) last(x) mode(x) list(x)",
            "number": "mean(x) median(x) quantile(x;q:number) std(x;ddof:int) var(x;ddof:int) corr(x;y) "
            "covar(x;y;ddof:int)",
            "text": "join(x;sep:text)",
            "int": "count(x=) nunique(x)",
            "bool": "any(x) all(x)",
        },
        frozenset({"agg", "window"}),
    )
)
"""The aggregates, by name; an ``agg`` is an expression of calls of them."""
WINDOWS: Mapping[str, Function] = MappingProxyType(
    _table(
        {
            "int": "rank() dense_rank() row_number()",
            "same": "lag(x;n:int=) lead(x;n:int=) cumsum(x) cummin(x) cummax(x)",
        },
        frozenset({"window"}),
    )
)
"""What a column of op ``window`` may call besides aggregates, which are those of its group."""
CALLABLE: Mapping[str, Function] = MappingProxyType({**FUNCTIONS, **AGGREGATES, **WINDOWS})
"""All of them by name; no two have one name."""
_ARRAY_OPS = frozenset({"sum", "mean", "min", "max", "median", "quantile", "std", "var", "any", "all"})


def name_hint(name: str) -> str:
    """Return ``; for a missing value write missing, …`` for a name such as ``null``; empty for any other name."""
    return f"; {FOREIGN_CONSTANTS[name.casefold()]}" if name.casefold() in FOREIGN_CONSTANTS else ""


def call_error(name: str, scope: Scope) -> str:
    """Return the message for a call of ``name`` that ``scope`` does not allow, with what to write instead."""
    if name in AGGREGATES:
        pairwise = {"min": "; of two values: minimum(a, b)", "max": "; of two values: maximum(a, b)"}.get(name, "")
        if scope == "arrays" and name in _ARRAY_OPS:
            return f"'{name}' is an op; write a step of its own: {{op: {name}, input: …}}{pairwise}"
        if scope in ("agg", "window"):
            return f"'{name}' is inside another aggregate; make it a column first, by a groupby of its own"
        windows = ", and in op window, which gives each row that of its group" if scope == "columns" else ""
        return f"'{name}' is an aggregate, which is only allowed in the agg of a groupby{windows}{pairwise}"
    if name in WINDOWS:
        if scope == "window":
            return f"'{name}' is inside an aggregate, or inside another function of windows; make it a column first"
        return f"'{name}' is for columns of op window"
    if name in FUNCTIONS:
        if name == "coord":
            return "'coord' is only for arrays; here a bare name is a column"
        return f"'{name}' is for columns and coordinates, not for arrays"
    folded = name.casefold()
    foreign = FOREIGN_FUNCTIONS.get(folded, "")
    if folded in FUNCTIONS and scope in FUNCTIONS[folded].scopes:
        return f"unknown function '{name}'; did you mean '{folded}'?"
    if scope == "agg" and (folded in AGGREGATES or not foreign) and nearest(folded, AGGREGATES):
        return f"unknown aggregate '{name}'{nearest(folded, AGGREGATES)}"
    known = [*WINDOWS, *AGGREGATES]
    if scope == "window" and (folded in known or not foreign) and nearest(folded, known):
        return f"unknown function '{name}'{nearest(folded, known)}"
    if scope == "window":
        foreign = FOREIGN_IN_WINDOWS.get(folded, foreign)
    if foreign:
        return f"unknown function '{name}'; write {foreign}"
    return f"unknown function '{name}'{nearest(name, [n for n, f in FUNCTIONS.items() if scope in f.scopes])}"


def aggregate_error() -> str:
    """Return the message for an ``agg`` without an aggregate."""
    return f"an agg needs an aggregate, such as sum(a * b) / count(); aggregates: {', '.join(AGGREGATES)}"


def bind_arguments(call: Call) -> Call:
    """Return the call with keyword arguments moved to their positions where possible, and its constants checked.

    An argument that must be a constant may still be a placeholder; call this again once it has a value.

    Raises
    ------
    ExpressionError : for a wrong number of arguments, an unknown keyword, or a constant of the wrong kind
    """
    function = CALLABLE[call.function]
    positional = [p for p in function.parameters if not p.keyword]
    args, keywords = list(call.args), dict(call.keywords)
    while len(args) < len(positional) and positional[len(args)].name in keywords:
        args.append(keywords.pop(positional[len(args)].name))
    for name in keywords:
        if name not in {p.name for p in function.parameters}:
            raise ExpressionError(_unknown_parameter(function, name, keywords[name]), call.column)
    least = sum(p.required for p in positional)
    too_many = len(args) > len(positional) and not function.variadic
    if len(args) < least or too_many or any(p.name in keywords for p in positional):
        hint = "; numpy and pandas differ, so ddof has no default" if call.function in {"std", "var", "covar"} else ""
        raise ExpressionError(f"got {count_text(len(args), 'argument')}; write {function}{hint}", call.column)
    for parameter, node in [
        *zip(positional, args, strict=False),
        *((p, keywords[p.name]) for p in function.parameters if p.name in keywords),
    ]:
        if parameter.kind != "any" and not isinstance(node, Constant | Placeholder | BoundValue):
            cure = _not_constant(function, args[0])
            raise ExpressionError(f"'{parameter.name}' of {function} must be a constant{cure}", call.column)
        _check_argument(function, parameter, node, call.column)
    return Call(call.function, tuple(args), tuple(sorted(keywords.items())), call.column)


def _unknown_parameter(function: Function, name: str, value: Node) -> str:
    """Return the message for a parameter that a function does not have, with what to write instead."""
    said = f"{function} has no parameter '{name}'"
    if function.name == "duration" and name in _UNITS:
        amount = value.value if isinstance(value, Constant) and constant_kind(value.value) == "number" else 1
        return f"{said}; write duration('{amount}{_UNITS[name]}')"
    if function.name in ("number", "integer") and name == "errors":
        return f"{said}; for texts that are none write {function.name}(where(match(s, '^[0-9]+$'), s, missing))"
    known = ", ".join(parameter.name for parameter in function.parameters)
    if not known or any(not parameter.required for parameter in function.parameters):
        return f"{said}; its parameters: {known or 'none'}"
    return f"{said}; its parameters: {known}; to compare write '=='"


def _not_constant(function: Function, first: Node) -> str:
    """Return what to write instead of an argument that had to be a constant; empty if that is not known."""
    if function.name in ("date", "timestamp"):
        texts = "parse_time(s, ['%d.%m.%Y'])"
        if isinstance(first, Name):
            return f"; for a column write a step of op astype: columns: {{{first.name}: {function.name}}}, or {texts}"
        return f"; of times write floor_time(t, 'day'), of texts {texts}"
    if function.name == "extract" and isinstance(first, Constant) and str(first.value).lower() in PARTS_OF_TIMES:
        return "; of a time write year(t), quarter(t), month(t), day(t), hour(t) …"
    return ""


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
    assert isinstance(node, Constant), "checked by the caller"
    error = _constant_error(parameter, node.value)
    if error:
        raise ExpressionError(f"'{parameter.name}' of {function}: {error}", column)


def _constant_error(parameter: Parameter, value: Any) -> str:
    """Return why ``value`` is not allowed for ``parameter``; empty if it is."""
    kind = parameter.kind
    if kind == "texts":
        texts = value if isinstance(value, tuple) else (value,)
        if not texts or not all(isinstance(text, str) for text in texts):
            return f"got {value!r}; it must be text or a list of texts: ['%d.%m.%Y', '%Y-%m-%d']"
        return next((error for text in texts if (error := _format_error(text))), "")
    if isinstance(value, tuple):
        return "got a list; it must be one value"
    value_kind = constant_kind(value)
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
    if (kind == "time" and value_kind in {"time", "zoned time"}) or (kind == "period" and value_kind == "duration"):
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


_DIRECTIVES = "aAwdbBmyYHIpMSfzjUWGVu%"


def _format_error(text: str) -> str:
    """Return why a format of times is not allowed; empty if it is."""
    for directive in re.findall(r"%(-?.?)", text):
        if directive.lstrip("-") not in _DIRECTIVES or not directive.lstrip("-"):
            known = ", ".join(f"%{letter}" for letter in _DIRECTIVES)
            return f"got {text!r}; '%{directive}' is not known; a format has {known}, as '%d.%m.%Y %H:%M:%S'"
    return ""


def _check_format(text: str) -> None:
    if error := _format_error(text):
        raise ExpressionError(error)


_TEXT_CHECKS: Mapping[str, Callable[[str], object]] = {
    "regex": _check_regex,
    "zone": _check_zone,
    "duration": parse_duration,
    "format": _check_format,
    "period": parse_period,
    "time": parse_time,
}


def fold_time_literal(call: Call) -> Node:
    """Return the Constant of ``date('…')``, ``timestamp('…')``, ``duration(…)``; any other call unchanged.

    Raises
    ------
    ExpressionError : a text that is none, or a duration of a text and of months
    """
    if call.function not in {"date", "timestamp", "duration"}:
        return call
    if call.function == "duration":
        return _duration(call)
    if not isinstance(call.args[0], Constant):
        return call
    value = call.args[0].value
    try:
        time = parse_time(value)
    except ExpressionError as error:
        raise ExpressionError(error.message, call.column) from None
    if call.function == "date" and (time.hour or time.minute or time.second or time.microsecond or time.tzinfo):
        raise ExpressionError(f"got {value!r}; date takes a day, timestamp('…') a time of day", call.column)
    return Constant(time)


def _duration(call: Call) -> Node:
    if bool(call.args) == bool(call.keywords):
        raise ExpressionError(
            "write duration('5min'), or duration(months=3) with years, quarters or months; add one to the other: "
            "t + duration(months=3) + duration('1d')",
            call.column,
        )
    if call.keywords:
        values = {name: node.value for name, node in call.keywords if isinstance(node, Constant)}
        if len(values) < len(call.keywords):
            return call
        return Constant(Months(sum(values[name] * _IN_MONTHS[name] for name in values)))
    if not isinstance(call.args[0], Constant):
        return call
    try:
        return Constant(parse_duration(call.args[0].value))
    except ExpressionError as error:
        raise ExpressionError(error.message, call.column) from None


_IN_MONTHS = {"years": 12, "quarters": 3, "months": 1}
_UNITS = {"weeks": "w", "days": "d", "hours": "h", "minutes": "min", "seconds": "s", "milliseconds": "ms"}
