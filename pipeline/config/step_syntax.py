"""A step as it is written in the file: its kind, its keys checked, its references found, nothing resolved yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from pipeline.config.expressions.expression import Expression, parse
from pipeline.config.expressions.functions import FUNCTIONS, name_hint
from pipeline.config.expressions.references import ExpressionError, ReferenceText, parse_reference
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Params, Placeholder, split_placeholders
from pipeline.config.matrix_values import exclusions, keys_of_all_maps, matrix_by_label, over_keys
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
    "check_keys",
    "existing_step",
    "note_comma_leftovers",
    "parse_bare_reference",
    "parse_expression",
    "parse_step",
    "resembles_deciding",
    "unknown_keys",
]

KINDS = ("op", "expr", "call", "command")
_EXAMPLES = {
    "op": "{op: mean, input: …}",
    "expr": '{expr: "a + b"}',
    "call": '{call: "module:function", args: {…}}',
    "command": "{command: [program, …]}",
}
CALL_KEYS = tuple(CallKeys.model_fields)
COMMAND_KEYS = tuple(CommandKeys.model_fields)
_DECIDING = ("matrix", "over", "parts", "files")
_SAME_FOR_ALL_INSTANCES = ("matrix", "exclude", "when")


@dataclass(frozen=True)
class ReferenceSite:
    """A reference in a step: its place, and the key or role that it is the value of; empty for ``${…}``.

    ``label`` is its name in a map of references.
    """

    reference: ReferenceText
    location: Location
    path: str
    role: str = ""
    label: str = ""


@dataclass
class ParsedStep:
    """One step of the file.

    Parameters
    ----------
    function : the name of the op, ``module:function``, the program, or the text of the expression
    matrix : its own matrix keys, each with its values by label
    over : the keys of its ``over``
    references : all its references, in order
    roles : of an op: the keys that hold references
    is_known : whether there is such an op, function or program, so that its keys can be judged
    is_whole : False where an error hides a reference or the matrix, so that its instances are a guess
    is_misspelt : whether a key looks like one that decides what the step gives, so that its kind and parts are unknown
    """

    name: str
    node: Node
    location: Location
    kind: Literal["op", "expr", "call", "command", ""] = ""
    function: str = ""
    matrix: dict[str, dict[str, Any]] = field(default_factory=dict)
    excluded: list[dict[str, Any]] = field(default_factory=list)
    over: frozenset[str] = frozenset()
    references: list[ReferenceSite] = field(default_factory=list)
    roles: tuple[str, ...] = ()
    expression: Expression | None = None
    is_known: bool = False
    is_whole: bool = True
    is_misspelt: bool = False

    @property
    def path(self) -> str:
        return f"steps.{self.name}"


def parse_step(
    name: str,
    node: Node,
    place: Location,
    *,
    params: Params,
    steps: frozenset[str],
    matrix_keys: frozenset[str],
    faults: FaultCollector,
    warnings: list[str],
) -> ParsedStep:
    """Parse one step; errors are added to ``faults``, and the rest of the step is parsed all the same.

    Parameters
    ----------
    place : where its name is
    steps : the names of all steps
    matrix_keys : those that any step of the file has

    Raises
    ------
    ConfigFault : if it is no map, or not the one that was meant
    """
    path = f"steps.{name}"
    if not node.is_map:
        raise ConfigFault(place, path, f"got {node.shown}; a step is a map with one of op, expr, call, command")
    known = (*KINDS, *COMMON_KEYS, *CALL_KEYS, *COMMAND_KEYS)
    if _comma_leftovers(node, known):
        raise ConfigFault(place, path, _leftovers_message(node, known))
    step = ParsedStep(name, node, place)
    with faults.caught():
        step.kind = _kind(node, place, path)
        step.function = _function(node.value[step.kind], f"{path}.{step.kind}", step.kind)
        step.roles = _op_roles(step.function) if step.kind == "op" else ("input",) if step.kind == "call" else ()
        step.is_known = True
    if not step.is_known and step.kind in ("op", ""):
        step.roles = tuple(dict.fromkeys(role for name in OPS for cls in OPS[name] for role in cls.inputs))
    n_faults = len(faults)
    with faults.caught():
        step.matrix = matrix_by_label(node.value.get("matrix"), f"{path}.matrix", params, steps, warnings)
    with faults.caught():
        step.excluded = exclusions(node.value.get("exclude"), f"{path}.exclude", params)
    if step.kind in ("call", "command", ""):
        step.over = over_keys(node.value.get("over"), f"{path}.over", faults)
    if step.kind == "command":
        step.over |= keys_of_all_maps(node.value.get("over"), f"{path}.over", params)
    step.references.extend(_references(step, steps, params, faults))
    unknown = _placeholder_names(node) - steps - step.over - matrix_keys - frozenset(params)
    step.is_misspelt = step.is_known and any(map(resembles_deciding, unknown_keys(step)))
    step.is_whole = len(faults) == n_faults and not unknown and not step.is_misspelt
    return step


def resembles_deciding(key: str) -> bool:
    """Return whether a key may be a misspelt one of those that decide which values a step gives."""
    return key not in _DECIDING and bool(nearest(key, _DECIDING))


def _function(what: Node, path: str, kind: str) -> str:
    """Return the name of the op, ``module:function``, the program, or the text of the expression."""
    if kind == "command":
        return _program(what, path)
    if not isinstance(what.value, str) and (kind != "expr" or what.is_map or what.is_list or what.value is None):
        raise ConfigFault(what.location, path, f"got {what.shown}; write a text")
    if kind == "op" and what.text not in OPS:
        raise ConfigFault(what.location, path, _unknown_op(what.text))
    return str(what.text)


def _placeholder_names(node: Node) -> set[str]:
    """Return the names that the ``${…}`` at any depth begin with."""
    if node.is_map or node.is_list:
        values = node.value.values() if node.is_map else node.value
        return {name for value in values for name in _placeholder_names(value)}
    if not isinstance(node.value, str) or "${" not in node.value:
        return set()
    try:
        pieces = split_placeholders(node.value)
    except ValueError:
        return set()
    return {piece.head for piece in pieces if isinstance(piece, Placeholder) and piece.head}


def _kind(node: Node, place: Location, path: str) -> Literal["op", "expr", "call", "command"]:
    kinds = [kind for kind in KINDS if kind in node.value]
    if len(kinds) == 1:
        return cast("Literal['op', 'expr', 'call', 'command']", kinds[0])
    got, hint = " and ".join(kinds) or "none", ""
    if not kinds:
        hint = next((f"; got {key!r}{near}" for key in node.value if (near := nearest(key, KINDS))), "")
    raise ConfigFault(place, path, f"needs exactly one of op, expr, call, command; got {got}{hint}")


# ---------------------------------------------------------------------------------------------------------------------
# Keys
# ---------------------------------------------------------------------------------------------------------------------


def _comma_leftovers(node: Node, known: tuple[str, ...]) -> list[str]:
    """Return the keys without values that come from unquoted commas: ``{expr: where(a, b, c)}``."""
    empty = [key for key, value in node.items() if value.is_empty and key not in known]
    broken = any(_is_unbalanced(value.text) for _, value in node.items() if isinstance(value.value, str))
    return empty if empty and (broken or any(map(_is_unbalanced, empty))) else []


def _is_unbalanced(text: str) -> bool:
    return text.count("(") != text.count(")") or text.count("[") != text.count("]")


def _leftovers_message(node: Node, known: tuple[str, ...]) -> str:
    """Return the message for such keys, with the expression put together again."""
    empty = [key for key, value in node.items() if value.is_empty and key not in known]
    before, pieces = "expr", []
    for key, value in node.items():
        if key in empty:
            pieces.append(key)
        elif isinstance(value.value, str) and _is_unbalanced(value.text) and not pieces:
            before, pieces = key, [value.text]
    quoted = [f"'{key}'" for key in empty]
    listed = f"the keys {', '.join(quoted[:-1])} and {quoted[-1]}" if quoted[1:] else f"the key {quoted[0]}"
    cure = f'{{{before}: "{", ".join(pieces)}"}}'
    return f"got {listed} without values; inside {{…}} an expression with a comma needs quotes: {cure}"


def note_comma_leftovers(node: Node, place: Location, path: str, faults: FaultCollector) -> bool:
    """Note keys that come from unquoted commas in a map below a step: ``agg: {p90: quantile(x, 0.9)}``."""
    if not _comma_leftovers(node, ()):
        return False
    faults.add(place, path, _leftovers_message(node, ()))
    return True


def _own_and_common_keys(step: ParsedStep, parameters: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    roles = step.roles if step.kind == "op" else ()
    own = {"op": (*roles, *parameters), "call": CALL_KEYS, "command": COMMAND_KEYS}.get(step.kind, ())
    return own, tuple(key for key in COMMON_KEYS if key != "input" or step.kind == "call")


def unknown_keys(step: ParsedStep) -> list[str]:
    """Return the keys that the step can't have, whichever class of its op is meant."""
    parameters = [name for cls in OPS[step.function] for name in cls.model_fields] if step.kind == "op" else []
    own, common = _own_and_common_keys(step, tuple(parameters))
    return [key for key in step.node.value if key not in (step.kind, *own, *common)]


def check_keys(step: ParsedStep, parameters: tuple[str, ...], faults: FaultCollector) -> None:
    """Note every key that the step can't have; ``parameters`` are those of its op."""
    roles = step.roles if step.kind == "op" else ()
    own, common = _own_and_common_keys(step, parameters)
    for key in step.node.value:
        if key == step.kind or key in own or key in common:
            continue
        what = f"op '{step.function}'" if step.kind == "op" else f"'{step.kind}'"
        shown = [name for name in own if name != "input"]
        allowed = f"{', '.join(shown)} and the common keys" if shown else "the common keys"
        hint = nearest(key, (*own, *common))
        if key == "input" and step.kind == "expr":
            hint = "; the names in an expr are its inputs"
        elif key == "input" and step.kind == "command":
            hint = "; its input is stdin, or ${…} in its arguments"
        elif key == "input":
            hint = f"; it takes {' and '.join(roles)}" if roles else "; a source has no input"
        faults.add(step.node.keys[key], f"{step.path}.{key}", f"unknown key of {what}; allowed: {allowed}{hint}")


def _program(what: Node, path: str) -> str:
    """Return the program of a command, as it is written."""
    if not what.is_list:
        cure = f"[{', '.join(what.text.split())}]" if isinstance(what.value, str) and what.value.strip() else "[ls, -l]"
        raise ConfigFault(what.location, path, f"got {what.shown}; write a list, which no shell reads: {cure}")
    if not what.value:
        raise ConfigFault(what.location, path, "got an empty list; the first is the program")
    for i, inner in enumerate(what.value):
        if inner.is_map or inner.is_list:
            message = f"got {inner.shown}; an argument is text or a number"
            raise ConfigFault(inner.location, f"{path}[{i}]", message)
    return str(what.value[0].text)


def _op_roles(op: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(role for cls in OPS[op] for role in cls.inputs))


def _unknown_op(name: str) -> str:
    """Return the message for a name that no op has; it may be a kind of step, or a function of expressions."""
    if name.casefold() in KINDS:
        return f"there is no op {name!r}; it is a kind of step: {_EXAMPLES[name.casefold()]}"
    if name in FUNCTIONS:
        is_of_arrays = "arrays" in FUNCTIONS[name].scopes
        cure = f'{{expr: "{name}(…)"}}' if is_of_arrays else f'{{op: assign, input: …, columns: {{…: "{name}(…)"}}}}'
        rows = "; to choose rows use op 'filter'" if name == "where" else ""
        return f"there is no op {name!r}{rows}; it is a function of expressions: {cure}"
    return OPS.unknown_message(name)


# ---------------------------------------------------------------------------------------------------------------------
# References
# ---------------------------------------------------------------------------------------------------------------------


def parse_expression(text: str, scope: Any, node: Node, path: str) -> Expression:
    """Parse an expression of the file.

    Raises
    ------
    ConfigFault : with the column within the text
    """
    try:
        return parse(text, scope)
    except ExpressionError as error:
        raise ConfigFault(node.location, path, str(error)) from None


def parse_bare_reference(node: Node, path: str) -> ReferenceText:
    """Parse a reference that is written without ``${…}``.

    Raises
    ------
    ConfigFault : if it is no reference
    """
    if not isinstance(node.value, str):
        raise ConfigFault(node.location, path, f"got {node.shown}; write the name of a step")
    if "${" in node.value:
        bare = re.sub(r"^\$\{(.*)\}$", r"\1", node.value)
        raise ConfigFault(node.location, path, f"got {node.shown}; a reference is the bare name of a step: {bare}")
    try:
        return parse_reference(node.value)
    except ExpressionError as error:
        raise ConfigFault(node.location, path, str(error)) from None


def existing_step(
    text: ReferenceText, node: Node, path: str, steps: frozenset[str], role: str, *, params: Params | None = None
) -> ReferenceSite:
    """Return the reference with its place.

    Parameters
    ----------
    params : of a name in an expression: the params that it may have been meant for

    Raises
    ------
    ConfigFault : if there is no such step
    """
    if text.name in steps:
        return ReferenceSite(text, node.location, path, role)
    at = f"column {text.column}: " if params is not None else ""
    others = sorted(steps - {path.split(".")[1]})  # a step can't need itself
    hint = nearest(text.name, others) or (f"; steps: {', '.join(others[:10])}" if others else "")
    if params is not None:
        hint = f"; the param is written ${{{text.name}}}" if text.name in params else name_hint(text.name) or hint
    raise ConfigFault(node.location, path, f"{at}no step is named {text.name!r}{hint}")


def _references(
    step: ParsedStep, steps: frozenset[str], params: Params, faults: FaultCollector
) -> Iterator[ReferenceSite]:
    roles = step.roles
    for key in step.roles:
        if key not in step.node.value:
            continue
        node = step.node.value[key]
        if (
            step.kind == "op"
            and step.is_known
            and any(c.roles()[key].named for c in OPS[step.function] if key in c.inputs)
        ):
            yield from _named_references(step, key, node, steps, faults)
            continue
        for i, inner in enumerate(node.value if node.is_list else [node]):
            path = f"{step.path}.{key}[{i}]" if node.is_list else f"{step.path}.{key}"
            with faults.caught():
                yield existing_step(parse_bare_reference(inner, path), inner, path, steps, key)
    if step.kind == "expr" and step.is_known:
        node, path = step.node.value["expr"], f"{step.path}.expr"
        with faults.caught():
            step.expression = parse_expression(node.text, "arrays", node, path)
        for text in step.expression.step_references if step.expression is not None else ():
            with faults.caught():
                yield existing_step(text, node, path, steps, str(text), params=params)
    if step.kind in ("call", "command") and "over" in step.node.value:
        yield from _over_references(step, steps, faults)
    if step.kind == "command" and "stdin" in step.node.value:
        node, path = step.node.value["stdin"], f"{step.path}.stdin"
        with faults.caught():
            text = parse_bare_reference(node, path)
            if text.name not in step.over:
                yield existing_step(text, node, path, steps, "stdin")
        roles = ("stdin",)
    for key, node in step.node.items():
        if key not in _SAME_FOR_ALL_INSTANCES and key not in roles:
            yield from _placeholder_references(node, f"{step.path}.{key}", step, steps, params)


def _is_named(op: str, key: str) -> bool:
    return any(cls.roles()[key].named for cls in OPS[op] if key in cls.inputs)


def _named_references(
    step: ParsedStep, key: str, node: Node, steps: frozenset[str], faults: FaultCollector
) -> Iterator[ReferenceSite]:
    """Find the references of a map, each with its name."""
    path = f"{step.path}.{key}"
    if not node.is_map or not node.value:
        faults.add(node.location, path, f"got {node.shown}; write a map: {{name: step}}")
        return
    for name, inner in node.items():
        with faults.caught():
            site = existing_step(parse_bare_reference(inner, f"{path}.{name}"), inner, f"{path}.{name}", steps, key)
            yield replace(site, label=str(name))


def _over_references(step: ParsedStep, steps: frozenset[str], faults: FaultCollector) -> Iterator[ReferenceSite]:
    over = step.node.value["over"]
    nodes = [(over, "")] if isinstance(over.value, str) else [(node, f".{key}") for key, node in over.items()]
    for node, suffix in nodes:
        if isinstance(node.value, str) and "${" not in node.value:
            with faults.caught():
                path = f"{step.path}.over{suffix}"
                yield existing_step(parse_bare_reference(node, path), node, path, steps, "over")


def _placeholder_references(
    node: Node, path: str, step: ParsedStep, steps: frozenset[str], params: Params
) -> Iterator[ReferenceSite]:
    """Find the steps in ``${…}`` at any depth; errors of the texts are reported when they are interpolated."""
    if node.is_map or node.is_list:
        inner: Mapping[Any, Node] = node.value if node.is_map else dict(enumerate(node.value))
        for key, value in inner.items():
            below = f"{path}.{key}" if node.is_map else f"{path}[{key}]"
            yield from _placeholder_references(value, below, step, steps, params)
    elif isinstance(node.value, str) and "${" in node.value:
        try:
            pieces = split_placeholders(node.value)
        except ValueError:
            return
        own = step.node.value.get("matrix")
        for piece in pieces:
            if not isinstance(piece, Placeholder) or (own is not None and own.at(piece.head) is not own):
                continue
            if piece.head in steps and piece.head not in step.over and piece.head not in params:
                try:
                    yield ReferenceSite(parse_reference(piece.text), node.location, path)
                except ExpressionError:
                    continue
