"""The copies of one step, from its draft and from what is known of the steps that it refers to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.binding import bound, truth
from pipeline.config.copies import Absent, Copies, Use, expanded, following, referred
from pipeline.config.drafts import Draft, Found, keys_allowed, looked_up
from pipeline.config.drafts import reference as bare_reference
from pipeline.config.faults import Faults, Wrong
from pipeline.config.filling import Params, Scope, fill
from pipeline.config.kinds import Known, cure, kind_of, one
from pipeline.config.names import duration, is_name
from pipeline.config.nouns import Over, Reference, Step
from pipeline.config.parameters import parameters, shapes
from pipeline.config.source import Node
from pipeline.config.values import values
from pipeline.errors import Location
from pipeline.expressions import Expression, ReferenceText
from pipeline.signatures import OPS, Signature, choose

__all__ = ["Context", "check_module", "resolved"]

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_MOST_CALLS = 1_000_000


@dataclass
class Context:
    """What all steps of a file share while they are resolved; ``known`` grows step by step."""

    params: Params
    steps: frozenset[str]
    faults: Faults
    importable: frozenset[str]
    known: dict[str, Known] = field(default_factory=dict)

    def scope(self, draft: Draft | None, matrix: Mapping[str, Any]) -> Scope:
        """What ``${…}`` means in one copy."""

        def resolve(text: ReferenceText, node: Node, path: str) -> Reference:
            known = self.known[text.name]
            kind_of(text, known, node.location, path)
            return referred(Use(text, node.location, path, known.copies), matrix)

        over = draft.over if draft is not None else frozenset()
        return Scope(self.params, matrix, over, self.steps, resolve)


def resolved(draft: Draft, context: Context) -> list[Step]:
    """The copies of a step; what is known of it is added to ``context.known``, faults to ``context.faults``."""
    faults = context.faults
    n_faults = len(faults)
    copies = Copies(draft.name, {}, {(): draft.name}, sure=False)
    signature: type[Signature] | None = None
    with faults.caught():
        copies = _copies(draft, context)
    context.known[draft.name] = Known(copies)
    try:
        signature = _checked(draft, context)
    except Wrong as wrong:
        faults.add(wrong.fault.location, wrong.fault.path, wrong.fault.message)
        return []
    steps: list[Step] = []
    for labels, name in copies.names.items():
        with faults.caught():
            steps.append(_Copy(draft, name, copies.matrix(labels), context, signature).step())
        if len(faults) > n_faults:
            break  # the other copies have the same faults
    context.known[draft.name] = _known(draft, copies, signature, context)
    return steps


def _copies(draft: Draft, context: Context) -> Copies:
    uses = [Use(f.reference, f.location, f.path, context.known[f.reference.name].copies) for f in draft.found]
    keys = following(draft.matrix, uses, at=draft.location, path=draft.path)
    for i, cut in enumerate(draft.excluded):
        for key in cut:
            if key not in keys:
                node = draft.node.at("exclude", i)
                has = f"it has {', '.join(keys)}" if keys else "it has none"
                raise Wrong(node.location, f"{draft.path}.exclude[{i}]", f"the step has no matrix key {key!r}; {has}")
    when = draft.node.value.get("when")

    def exists(matrix: Mapping[str, Any]) -> bool:
        return when is None or truth(when, f"{draft.path}.when", Scope(context.params, matrix))

    return expanded(draft.name, keys, uses, excluded=draft.excluded, when=exists, at=draft.location)


# ---------------------------------------------------------------------------------------------------------------------
# What holds of all copies
# ---------------------------------------------------------------------------------------------------------------------


def _checked(draft: Draft, context: Context) -> type[Signature] | None:
    """Check keys and kinds; the signature of an op."""
    kinds: dict[str, str] = {}
    for found in draft.found:
        with context.faults.caught():
            kind = kind_of(found.reference, context.known[found.reference.name], found.location, found.path)
            kinds.setdefault(found.role, kind)
            _role_kind(draft, found, kind, context)
    if draft.kind != "op":
        keys_allowed(draft, (), context.faults)
        if draft.kind == "call":
            _check_call(draft, context)
        return None
    first = next((kinds[role] for role in draft.roles if role in kinds), "")
    signature = _meant(draft, first)
    draft.roles = tuple(signature.inputs)
    keys_allowed(draft, tuple(signature.model_fields), context.faults)
    for name, role in signature.roles().items():
        if name not in draft.node.value and not role.optional:
            message = f"op {draft.function!r} needs {name}: the name of a step that is {_kinds(role.kinds)}"
            context.faults.add(draft.location, draft.path, message)
        elif name in draft.node.value and draft.node.value[name].value == []:
            message = f"got an empty list; op {draft.function!r} needs {_kinds(role.kinds)}"
            context.faults.add(draft.node.value[name].location, f"{draft.path}.{name}", message)
    return signature


def _meant(draft: Draft, kind: str) -> type[Signature]:
    """The class of a step's op; the step's parameters tell where the kind of the input does not."""
    return choose(draft.function, kind, [name for name, node in draft.node.items() if node.is_map])


def _kinds(kinds: tuple[str, ...]) -> str:
    return " or ".join(map(one, dict.fromkeys(kinds)))


def _role_kind(draft: Draft, found: Found, kind: str, context: Context) -> None:
    """Message 5: the kind of an input is not one that the step takes."""
    text, known = str(found.reference), context.known[found.reference.name]
    if not kind:
        return
    if draft.kind == "expr" and found.role and kind in ("frame", "items"):
        hint = f"; columns are computed by {{op: assign, input: {text}, columns: {{…: …}}}}" if kind == "frame" else ""
        hint = hint or cure(kind, ("array",), text)
        raise Wrong(found.location, found.path, f"got {text!r} ({kind}); an expr takes arrays and scalars{hint}")
    if draft.kind == "call" and found.role == "over" and kind in ("array", "frame"):
        hint = cure(kind, ("items",), text)
        raise Wrong(
            found.location, found.path, f"got {text!r} ({kind}); over takes items, or a value that is a list{hint}"
        )
    if draft.kind == "op" and not found.role and kind == "items":
        raise Wrong(found.location, found.path, f"got {text!r} (items); within ${{…}} stands one value")
    if draft.kind != "op" or not found.role:
        return
    roles = [cls.roles()[found.role] for cls in OPS[draft.function] if found.role in cls.inputs]
    allowed = tuple(dict.fromkeys(k for role in roles for k in role.kinds))
    if kind not in allowed:
        role = _meant(draft, kind).roles().get(found.role)
        allowed = role.kinds if role is not None else allowed
    if roles and kind not in allowed:
        hint = cure(kind, allowed, text)
        raise Wrong(
            found.location, found.path, f"got {text!r} ({kind}); op {draft.function!r} needs {_kinds(allowed)}{hint}"
        )
    if draft.function == "to_array" and kind == "items" and known.droppable:
        said = f"items of {text!r} may be left out (on_error: drop), so an array of them has holes"
        raise Wrong(
            found.location, found.path, f"{said}; make a frame: {{op: to_frame, input: {text}, columns: {{…: type}}}}"
        )
    several = {k for role in roles for k in role.gathered}
    gathers = any(p.is_gather for p in found.reference.picks)
    if gathers and kind not in several:
        raise Wrong(
            found.location, found.path, f"got all copies of {known.copies.step!r}; op {draft.function!r} takes one"
        )
    node = draft.node.value.get(found.role)
    if node is not None and node.is_list and not several:
        raise Wrong(node.location, f"{draft.path}.{found.role}", f"got a list; op {draft.function!r} takes one")


def _check_call(draft: Draft, context: Context) -> None:
    node = draft.node.value["call"]
    path = f"{draft.path}.call"
    if not _FUNCTION.fullmatch(draft.function):
        raise Wrong(node.location, path, f'got {node.said}; a function is written "module:function"')
    check_module(draft.function, node, path, context)


def check_module(function: str, node: Node, path: str, context: Context) -> None:
    """Note it if the module of ``module:function`` is not among ``modules``."""
    module = function.partition(":")[0]
    names = module.split(".")
    if not any(".".join(names[:i]) in context.importable for i in range(1, len(names) + 1)):
        has = f"modules has {', '.join(sorted(context.importable))}" if context.importable else "modules is empty"
        context.faults.add(
            node.location,
            path,
            f"{module!r} is not among modules; add it: modules: [{module}], or [./{names[0]}.py]; {has}",
        )


def _known(draft: Draft, copies: Copies, signature: type[Signature] | None, context: Context) -> Known:
    if signature is not None:
        return Known(copies, signature.gives, dict.fromkeys(signature.parts, "array"))
    if draft.kind == "expr":
        return Known(copies, "array")
    kind = "items" if "over" in draft.node.value else "value"
    parts = draft.node.value.get("parts")
    names = [n.text for n in parts.value] if parts is not None and parts.is_list else []
    dropping = draft.node.at("on_error").value == "drop"
    dropping |= any(f.role == "over" and context.known[f.reference.name].droppable for f in draft.found)
    return Known(copies, kind, dict.fromkeys(names, kind), dropping)


# ---------------------------------------------------------------------------------------------------------------------
# One copy
# ---------------------------------------------------------------------------------------------------------------------


class _Copy:
    """Reads one copy of a step."""

    def __init__(
        self, draft: Draft, name: str, matrix: Mapping[str, Any], context: Context, signature: type[Signature] | None
    ) -> None:
        self.draft, self.name, self.matrix, self.context, self.signature = draft, name, matrix, context, signature
        self.scope = context.scope(draft, matrix)
        self.node, self.path = draft.node, draft.path

    def step(self) -> Step:
        """The copy; faults in single keys are noted, and a stand-in value goes on."""
        kind = self.draft.kind
        common = self._common()
        inputs = self._inputs()
        made: dict[str, Any] = {}
        if kind == "op" and self.signature is not None:
            given = parameters(self.signature, self.draft, self.scope, self.context.faults)
            made["parameters"] = given
            if given is not None:
                shapes(given, self.draft, self._kinds(), self.context.faults)
                function = given.keywords().get("function")
                if function is not None:
                    node = self.node.at("function")
                    check_module(function, node, f"{self.path}.function", self.context)
        elif kind == "expr":
            made["expression"] = self._expression(inputs)
        elif kind == "call":
            made |= self._call()
        return Step(
            name=self.name,
            step=self.draft.name,
            kind=kind,
            function=self.draft.function,
            matrix=dict(self.matrix),
            inputs=inputs,
            location=self.draft.location,
            locations=dict(_locations(self.node, "")),
            **common,
            **made,
        )

    def _get(self, key: str, check: Callable[[Any], Any], wanted: str, default: Any) -> Any:
        """The value of a key that ``check`` accepts, converted by it; ``check`` gives None for what it does not."""
        if key not in self.node.value:
            return default
        node = self.node.value[key]
        with self.context.faults.caught():
            got = check(fill(node, f"{self.path}.{key}", self.scope))
            if got is None:
                raise Wrong(node.location, f"{self.path}.{key}", f"got {node.said}; {wanted}")
            return got
        return default

    def _common(self) -> dict[str, Any]:
        for key, allowed in (("checkpoint", False), ("pure", True)):
            if self._get(key, _bool, "write true or false", allowed) is not allowed:
                node = self.node.value[key]
                said = f"{key}: {str(not allowed).lower()}"
                self.context.faults.add(node.location, f"{self.path}.{key}", f"{said} is not built yet")
        on_error = self._get("on_error", lambda v: v if v in ("stop", "drop") else None, "write stop or drop", "stop")
        if on_error == "drop" and "over" not in self.node.value:
            self.context.faults.add(
                self.node.value["on_error"].location,
                f"{self.path}.on_error",
                "drop leaves out the failed items of a call with over; this step has no items of its own",
            )
        return {
            "retries": self._get("retries", _count, "write a whole number >= 0", 0),
            "timeout": self._get("timeout", duration, "write seconds, or a text like 5min, 30s, 2h", None),
            "resources": self._get("resources", _resources, "write a map of numbers: {GPU: 1}", {}),
            "on_error": on_error,
        }

    def _inputs(self) -> dict[str, tuple[Reference, ...]]:
        inputs: dict[str, tuple[Reference, ...]] = {}
        for found in self.draft.found:
            if found.role and found.role != "over":
                inputs[found.role] = (*inputs.get(found.role, ()), self._referred(found))
        return inputs

    def _referred(self, found: Found) -> Reference:
        copies = self.context.known[found.reference.name].copies
        try:
            return referred(Use(found.reference, found.location, found.path, copies), self.matrix)
        except Absent:  # only behind a fault: copies that lack something are not made
            raise Wrong(
                found.location,
                found.path,
                f"{str(found.reference)!r} does not exist in {self.name!r}",
                consequence=len(self.context.faults) > 0,
            ) from None

    def _kinds(self) -> dict[str, str]:
        """The kind of each role's first reference, with a ``*`` where it is gathered."""
        kinds: dict[str, str] = {}
        for found in self.draft.found:
            kind = kind_of(found.reference, self.context.known[found.reference.name], found.location, found.path)
            gathers = any(p.is_gather for p in found.reference.picks)
            if found.role:
                kinds.setdefault(found.role, f"{kind}*" if gathers else kind)
        return kinds

    def _expression(self, inputs: Mapping[str, tuple[Reference, ...]]) -> Expression | None:
        if self.draft.parsed is None:
            return None
        named = {text: inputs[str(text)][0] for text in self.draft.parsed.named if str(text) in inputs}
        for text, given in named.items():
            if given.gathered:
                raise Wrong(given.location, f"{self.path}.expr", f"got {str(text)!r}; an expr takes one copy, not all")
        return bound(self.draft.parsed, self.node.value["expr"], f"{self.path}.expr", self.scope, named)

    # -- calls --------------------------------------------------------------------------------------------------------

    def _call(self) -> dict[str, Any]:
        args: dict[str, Any] = {}
        node = self.node.value.get("args")
        if node is not None and not node.is_map:
            self.context.faults.add(
                node.location, f"{self.path}.args", f"got {node.said}; write a map: {{name: value}}"
            )
        elif node is not None:
            for key, value in node.value.items():
                path = f"{self.path}.args.{key}"
                if not key.isidentifier():
                    self.context.faults.add(node.keys[key], path, f"{key!r} can't be a keyword argument")
                with self.context.faults.caught():
                    args[key] = fill(value, path, self.scope, run=True)
        over = None
        with self.context.faults.caught():
            over = self._over()
        given = set(self.draft.over)
        if over is not None and isinstance(over.maps, tuple):
            given |= {name for one in over.maps for name in one}
        for key in (key for key in args if key in given):
            place = self.node.at("args").keys[key]
            self.context.faults.add(place, f"{self.path}.args.{key}", f"{key!r} is a key of over already")
        return {
            "args": args,
            "over": over,
            "batch": self._get("batch", _batch, "write auto, or a whole number >= 1", 0) or None,
            "parts": self._get("parts", _parts, "write a list of different names: [model, rmse]", ()),
            "seed": self._get("seed", _bool, "write true or false", False),
        }

    def _over(self) -> Over | None:
        node = self.node.value.get("over")
        if node is None:
            return None
        path = f"{self.path}.over"
        if not node.is_map:
            maps = self._axis(node, path)
            if not isinstance(maps, Reference) and not all(isinstance(m, dict) for m in maps):
                raise Wrong(node.location, path, f"got {node.said}; write {{name: values}}, a list of maps, or a step")
            return Over(maps=maps)
        if not node.value:
            raise Wrong(node.location, path, "got an empty map; write {name: values}")
        axes = tuple((key, self._axis(value, f"{path}.{key}")) for key, value in node.value.items())
        n = 1
        for _, given in axes:
            n *= 1 if isinstance(given, Reference) else len(given)
        if n > _MOST_CALLS:
            raise Wrong(node.location, path, f"makes {n:,} calls; at most {_MOST_CALLS:,}")
        return Over(axes=axes)

    def _axis(self, node: Node, path: str) -> Any:
        if isinstance(node.value, str) and "${" not in node.value:
            text = bare_reference(node, path)
            return self._referred(looked_up(text, node, path, self.context.steps, "over"))
        if isinstance(node.value, str):
            outer = Scope(self.scope.params, self.scope.matrix, frozenset(), self.scope.steps, self.scope.resolve)
            got = fill(node, path, outer, run=True)
            if isinstance(got, Reference):
                if got.gathered:
                    raise Wrong(node.location, path, f"got {node.said}; over takes one copy, not all")
                return got
            if not isinstance(got, list | dict):
                raise Wrong(node.location, path, f"got {node.said}; values are a list, {{range: n}}, or items")
        return tuple(values(node, path, Scope(self.scope.params, self.scope.matrix)))


def _locations(node: Node, path: str) -> list[tuple[str, Location]]:
    """Every key of a map, dotted, with the place of its value."""
    found: list[tuple[str, Location]] = []
    for key, inner in node.items():
        inner_path = f"{path}.{key}" if path else key
        found.append((inner_path, inner.location))
        found += _locations(inner, inner_path)
    return found


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _batch(value: Any) -> int | None:
    if value == "auto":
        return 0
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None


def _resources(value: Any) -> dict[str, float] | None:
    fits = isinstance(value, dict) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and v >= 0 for v in value.values()
    )
    return {k: float(v) for k, v in value.items()} if fits else None


def _parts(value: Any) -> tuple[str, ...] | None:
    fits = isinstance(value, list) and value and all(isinstance(v, str) and is_name(v) for v in value)
    return tuple(value) if fits and len(set(value)) == len(value) else None
