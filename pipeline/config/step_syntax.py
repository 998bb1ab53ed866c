"""A step as it stands in the file: which kind it is, its keys checked, its references found, nothing resolved yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from pipeline.config.expressions.expression import Expression, parse
from pipeline.config.expressions.functions import FUNCTIONS, name_hint
from pipeline.config.expressions.references import ExpressionError, ReferenceText, parse_reference
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Params, Placeholder, holes
from pipeline.config.matrix_values import excluded, matrix, over_names, shared_keys
from pipeline.config.sections.keys import CallKeys, CommandKeys
from pipeline.config.signatures import COMMON_KEYS, OPS
from pipeline.config.yaml_nodes import Node
from pipeline.errors import Location, nearest

__all__ = [
    "CALL_KEYS",
    "COMMAND_KEYS",
    "COMMON_KEYS",
    "ParsedStep",
    "ReferenceSite",
    "draft",
    "expression",
    "keys_allowed",
    "leftovers",
    "looked_up",
]

KINDS = ("op", "expr", "call", "command")
_WRITTEN = {
    "op": "{op: mean, input: …}",
    "expr": '{expr: "a + b"}',
    "call": '{call: "module:function", args: {…}}',
    "command": "{command: [program, …]}",
}
CALL_KEYS = tuple(CallKeys.model_fields)
COMMAND_KEYS = tuple(CommandKeys.model_fields)
_OUTSIDE_COPIES = ("matrix", "exclude", "when")


@dataclass(frozen=True)
class ReferenceSite:
    """A reference in a step: where it stands, and the role of an op that it fills (empty: it is a ``${…}``)."""

    reference: ReferenceText
    location: Location
    path: str
    role: str = ""


@dataclass
class ParsedStep:
    """One step of the file.

    Parameters
    ----------
    matrix : its own matrix keys, each with its values by label
    over : the keys of its ``over``
    found : all its references, in order
    roles : of an op: the keys that hold references
    """

    name: str
    node: Node
    location: Location
    kind: Literal["op", "expr", "call", "command"] = "call"
    function: str = ""
    matrix: dict[str, dict[str, Any]] = field(default_factory=dict)
    excluded: list[dict[str, Any]] = field(default_factory=list)
    over: frozenset[str] = frozenset()
    found: list[ReferenceSite] = field(default_factory=list)
    roles: tuple[str, ...] = ("input",)
    parsed: Expression | None = None

    @property
    def path(self) -> str:
        return f"steps.{self.name}"


def draft(
    name: str,
    node: Node,
    place: Location,
    *,
    params: Params,
    steps: frozenset[str],
    faults: FaultCollector,
    warnings: list[str],
) -> ParsedStep:
    """The draft of a step.

    Raises
    ------
    Wrong : if it is so far from a step that nothing more can be said of it; lesser faults go to ``faults``
    """
    path = f"steps.{name}"
    if not node.is_map:
        raise ConfigFault(place, path, f"got {node.said}; a step is a map with one of op, expr, call, command")
    known = (*KINDS, *COMMON_KEYS, *CALL_KEYS, *COMMAND_KEYS)
    if leftovers(node, place, path, known, faults):
        raise ConfigFault(place, path, _left(node, known))
    kinds = [k for k in KINDS if k in node.value]
    if len(kinds) != 1:
        got = " and ".join(kinds) if kinds else "none"
        hint = next((f"; 'got {k}'{h}" for k in node.value if not kinds and (h := nearest(k, KINDS))), "")
        hint = hint.replace("'got ", "got '", 1)
        raise ConfigFault(place, path, f"needs exactly one of op, expr, call, command; got {got}{hint}")
    kind = cast("Literal['op', 'expr', 'call', 'command']", kinds[0])
    what = node.value[kind]
    if kind == "command":
        made = ParsedStep(name, node, place, kind, _program(what, f"{path}.command"))
    elif not isinstance(what.value, str) and (kind != "expr" or what.is_map or what.is_list or what.value is None):
        raise ConfigFault(what.location, f"{path}.{kind}", f"got {what.said}; write a text")
    else:
        made = ParsedStep(name, node, place, kind, str(what.text))
    if kind == "op":
        made.roles = _op_roles(made, what)
    # without its matrix nothing else of the step is known
    made.matrix = matrix(node.value.get("matrix"), f"{path}.matrix", params, steps, warnings)
    with faults.caught():
        made.excluded = excluded(node.value.get("exclude"), f"{path}.exclude", params)
    if kind in ("call", "command"):
        made.over = over_names(node.value.get("over"), f"{path}.over", faults)
    if kind == "command":
        made.over |= shared_keys(node.value.get("over"), f"{path}.over", params)
    for found in _references(made, steps, params, faults):
        made.found.append(found)
    return made


# ---------------------------------------------------------------------------------------------------------------------
# Keys
# ---------------------------------------------------------------------------------------------------------------------


def leftovers(node: Node, place: Location, path: str, known: tuple[str, ...], faults: FaultCollector) -> list[str]:
    """Keys without values that unquoted commas have left: ``{expr: where(a, b, c)}``."""
    empty = [k for k, v in node.items() if v.is_empty and k not in known]
    broken = any(_unbalanced(v.text) for _, v in node.items() if isinstance(v.value, str))
    return empty if empty and (broken or any(_unbalanced(k) for k in empty)) else []


def _unbalanced(text: str) -> bool:
    return text.count("(") != text.count(")") or text.count("[") != text.count("]")


def _left(node: Node, known: tuple[str, ...]) -> str:
    """The message for leftovers, with the text put together again."""
    empty = [k for k, v in node.items() if v.is_empty and k not in known]
    before, pieces = "expr", []
    for key, value in node.items():
        if key in empty:
            pieces.append(key)
        elif isinstance(value.value, str) and _unbalanced(value.text) and not pieces:
            before, pieces = key, [value.text]
    listed = " and ".join(
        [", ".join(f"'{k}'" for k in empty[:-1]), f"'{empty[-1]}'"] if empty[1:] else [f"'{empty[0]}'"]
    )
    several = "keys" if empty[1:] else "key"
    return (
        f"got the {several} {listed} without values; inside {{…}} an expression with a comma needs quotes: "
        f'{{{before}: "{", ".join(pieces)}"}}'
    )


def inner_leftovers(node: Node, place: Location, path: str, faults: FaultCollector) -> bool:
    """The same for a map below a step: ``agg: {p90: quantile(x, 0.9)}``."""
    if not leftovers(node, place, path, (), faults):
        return False
    faults.add(place, path, _left(node, ()))
    return True


def keys_allowed(made: ParsedStep, parameters: tuple[str, ...], faults: FaultCollector) -> None:
    """Note every key that the step can't have."""
    roles = made.roles if made.kind == "op" else ()
    own = {"op": (*roles, *parameters), "call": CALL_KEYS, "expr": (), "command": COMMAND_KEYS}[made.kind]
    common = tuple(k for k in COMMON_KEYS if k != "input" or made.kind == "call")
    for key in made.node.value:
        if key == made.kind or key in own or key in common:
            continue
        what = f"op '{made.function}'" if made.kind == "op" else f"'{made.kind}'"
        shown = [k for k in own if k != "input"]
        allowed = f"{', '.join(shown)} and the common keys" if shown else "the common keys"
        hint = nearest(key, (*own, *common))
        if key == "input" and made.kind == "expr":
            hint = "; the names in an expr are its inputs"
        elif key == "input" and made.kind == "command":
            hint = "; what it reads is its stdin, or stands as ${…} in its arguments"
        elif key == "input":
            hint = f"; it takes {' and '.join(roles)}" if roles else "; a source has no input"
        faults.add(made.node.keys[key], f"{made.path}.{key}", f"unknown key of {what}; allowed: {allowed}{hint}")


def _program(what: Node, path: str) -> str:
    """The program of a command, as it is written."""
    if not what.is_list:
        cure = f"[{', '.join(what.text.split())}]" if isinstance(what.value, str) and what.value.strip() else "[ls, -l]"
        raise ConfigFault(what.location, path, f"got {what.said}; write a list, which no shell reads: {cure}")
    if not what.value:
        raise ConfigFault(what.location, path, "got an empty list; the first is the program")
    for i, inner in enumerate(what.value):
        if inner.is_map or inner.is_list:
            said = f"got {inner.said}; an argument is text or a number"
            raise ConfigFault(inner.location, f"{path}[{i}]", said)
    return str(what.value[0].text)


def _op_roles(made: ParsedStep, what: Node) -> tuple[str, ...]:
    op = made.function
    if op not in OPS:
        raise ConfigFault(what.location, f"{made.path}.op", _no_op(op))
    return tuple(dict.fromkeys(r for cls in OPS[op] for r in cls.inputs))


def _no_op(name: str) -> str:
    """What there is to say of a name that no op has; it may be a kind of step, or a function of expressions."""
    if name.casefold() in KINDS:
        return f"there is no op {name!r}; it is a kind of step: {_WRITTEN[name.casefold()]}"
    if name in FUNCTIONS:
        function = FUNCTIONS[name]
        key = "expr: " if "arrays" in function.scopes else "op: assign, input: …, columns: {…: "
        said = f'{{{key}"{name}(…)"{"}" if "columns" in key else ""}}}'
        return f"there is no op {name!r}; it is a function of expressions: {said}"
    return OPS.unknown_message(name)


# ---------------------------------------------------------------------------------------------------------------------
# References
# ---------------------------------------------------------------------------------------------------------------------


def expression(text: str, scope: Any, node: Node, path: str) -> Expression:
    """The expression that a text is, its fault as one of the file.

    Raises
    ------
    Wrong : with the column within the text
    """
    try:
        return parse(text, scope)
    except ExpressionError as error:
        raise ConfigFault(node.location, path, str(error)) from None


def reference(node: Node, path: str) -> ReferenceText:
    """The bare reference that a text is.

    Raises
    ------
    Wrong : if it is none
    """
    if not isinstance(node.value, str):
        raise ConfigFault(node.location, path, f"got {node.said}; write the name of a step")
    if "${" in node.value:
        bare = re.sub(r"^\$\{(.*)\}$", r"\1", node.value)
        raise ConfigFault(node.location, path, f"got {node.said}; a reference is the bare name of a step: {bare}")
    try:
        return parse_reference(node.value)
    except ExpressionError as error:
        raise ConfigFault(node.location, path, str(error)) from None


def role_nodes(node: Node) -> list[tuple[Node, str]]:
    """The single references of a role, with what is added to the path: it may be one, or a list."""
    return [(inner, f"[{i}]") for i, inner in enumerate(node.value)] if node.is_list else [(node, "")]


def _references(
    made: ParsedStep, steps: frozenset[str], params: Params, faults: FaultCollector
) -> Iterator[ReferenceSite]:
    roles = made.roles if made.kind == "op" else ("input",) if made.kind == "call" else ()
    for key in roles:
        for node, suffix in role_nodes(made.node.value[key]) if key in made.node.value else ():
            with faults.caught():
                yield looked_up(
                    reference(node, f"{made.path}.{key}{suffix}"), node, f"{made.path}.{key}{suffix}", steps, key
                )
    if made.kind == "expr":
        node = made.node.value["expr"]
        with faults.caught():
            made.parsed = expression(node.text, "arrays", node, f"{made.path}.expr")
            for named in made.parsed.step_references:
                yield looked_up(named, node, f"{made.path}.expr", steps, str(named), params=params)
    if made.kind in ("call", "command") and "over" in made.node.value:
        yield from _over_references(made, steps, faults)
    if made.kind == "command" and "stdin" in made.node.value:
        node, path = made.node.value["stdin"], f"{made.path}.stdin"
        with faults.caught():
            text = reference(node, path)
            if text.name not in made.over:
                yield looked_up(text, node, path, steps, "stdin")
        roles = ("stdin",)
    for key, node in made.node.items():
        if key not in _OUTSIDE_COPIES and key not in roles:
            yield from _holes(node, f"{made.path}.{key}", made, steps, params)


def _over_references(made: ParsedStep, steps: frozenset[str], faults: FaultCollector) -> Iterator[ReferenceSite]:
    over = made.node.value["over"]
    nodes = [(over, "")] if isinstance(over.value, str) else [(n, f".{k}") for k, n in over.items()]
    for node, suffix in nodes:
        if isinstance(node.value, str) and "${" not in node.value:
            with faults.caught():
                path = f"{made.path}.over{suffix}"
                yield looked_up(reference(node, path), node, path, steps, "over")


def looked_up(
    text: ReferenceText, node: Node, path: str, steps: frozenset[str], role: str, *, params: Params | None = None
) -> ReferenceSite:
    """The reference, if there is such a step; ``params`` are those that an expression may have meant."""
    if text.name not in steps:
        at = f"column {text.column}: " if params is not None else ""
        others = sorted(steps - {path.split(".")[1]})  # a step can't need itself
        hint = nearest(text.name, others) or (f"; steps: {', '.join(others[:10])}" if others else "")
        if params is not None:
            hint = f"; the param is written ${{{text.name}}}" if text.name in params else name_hint(text.name) or hint
        raise ConfigFault(node.location, path, f"{at}no step is named {text.name!r}{hint}")
    return ReferenceSite(text, node.location, path, role)


def _holes(node: Node, path: str, made: ParsedStep, steps: frozenset[str], params: Params) -> Iterator[ReferenceSite]:
    """The steps within ``${…}`` at any depth; faults of the texts come up again when they are filled."""
    if node.is_map or node.is_list:
        inner: Mapping[Any, Node] = node.value if node.is_map else dict(enumerate(node.value))
        for key, value in inner.items():
            yield from _holes(value, f"{path}.{key}" if node.is_map else f"{path}[{key}]", made, steps, params)
    elif isinstance(node.value, str) and "${" in node.value:
        try:
            pieces = holes(node.value)
        except ValueError:
            return
        for piece in pieces:
            if isinstance(piece, Placeholder) and piece.head in steps - made.over and piece.head not in params:
                try:
                    yield ReferenceSite(parse_reference(piece.text), node.location, path)
                except ExpressionError:
                    continue
