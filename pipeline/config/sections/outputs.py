"""The outputs of a file: what is written, in which format, below which path."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.expressions.references import ReferenceText
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Placeholder, Scope, fill, holes
from pipeline.config.matrix import Absent, BoundReference, Instances, cure, expanded, following, kind_of, one, referred
from pipeline.config.model import Output, Reference
from pipeline.config.sections.formats import FORMATS
from pipeline.config.step_context import Context
from pipeline.config.step_syntax import reference as bare_reference
from pipeline.config.yaml_nodes import Node
from pipeline.errors import Location, nearest

__all__ = ["outputs"]

_TOLD = ("partition_by", "files", "attrs", "options")
_KEYS = ("input", "to", "path", "mode", *_TOLD)


def outputs(node: Node | None, context: Context) -> tuple[Output, ...]:
    """The outputs, one for each copy of what they write."""
    made: list[Output] = []
    if node is None or node.is_empty:
        return ()
    if not node.is_map:
        raise ConfigFault(node.location, "outputs", f"got {node.said}; write a map: {{name: {{to: parquet, path: …}}}}")
    for name, inner in node.value.items():
        with context.faults.caught():
            made += _output(name, inner, node.keys[name], context)
    _apart(made, context.faults)
    return tuple(made)


def _output(name: str, node: Node, place: Location, context: Context) -> list[Output]:
    path = f"outputs.{name}"
    if not node.is_map:
        raise ConfigFault(place, path, f"got {node.said}; write {{to: parquet, path: …}}")
    no_other_keys(node, path, _KEYS, context.faults)
    source = node.value.get("input", Node(place, name, name, folder=node.folder))
    at = f"{path}.input" if "input" in node.value else path
    text = bare_reference(source, at)
    meant = use(text, source, at, context)
    sort = kind(text, source, at, context)
    to = _format(node, place, path, sort, str(text))
    if "path" not in node.value:
        raise ConfigFault(place, path, "needs path: where to write, below the output folder")
    keys = following({}, [meant], at=place, path=path)
    copies = expanded(name, keys, [meant], excluded=(), when=always, at=place)
    made = []
    for labels in copies.names:
        matrix = copies.matrix(labels)
        try:
            given = referred(meant, matrix)
        except Absent:
            continue
        if given.gathered:
            raise ConfigFault(source.location, at, f"got {source.said}; an output writes one value: gather in a step")
        made.append(_one_output(name, node, place, path, to, sort, given, matrix, context))
    if made and len({o.path for o in made}) < len(made):
        target, lists = node.value["path"], "; ".join(f"{k}: {', '.join(v)}" for k, v in keys.items())
        lacking = [k for k in keys if k not in _names_in(target)] or list(keys)
        raise ConfigFault(
            target.location,
            f"{path}.path",
            f"got {target.said} for {len(made)} copies of {text.name!r} ({lists}); the path must hold "
            f'{" and ".join(f"${{{k}}}" for k in lacking)}, or gather them in a step with "{text.name}[*]"',
        )
    return made


def _names_in(node: Node) -> set[str]:
    try:
        return {piece.head for piece in holes(node.text) if isinstance(piece, Placeholder)}
    except ValueError:
        return set()


def _format(node: Node, place: Location, path: str, kind: str, text: str) -> str:
    if "to" not in node.value:
        raise ConfigFault(place, path, f"needs to: one of {', '.join(FORMATS)}")
    to = node.value["to"]
    if to.text not in FORMATS:
        raise ConfigFault(
            to.location, f"{path}.to", f"got {to.said}; formats: {', '.join(FORMATS)}{nearest(to.text, FORMATS)}"
        )
    kinds = FORMATS[to.text].kinds
    if kind and kind not in kinds:
        fit = [name for name, form in FORMATS.items() if kind in form.kinds]
        hint = cure(kind, kinds, text)
        raise ConfigFault(
            to.location,
            f"{path}.to",
            f"got {to.text} for {text!r} ({kind}); {one(kind)} {'are' if kind == 'items' else 'is'} written to "
            f"{' or '.join(fit)}{hint}",
        )
    return str(to.text)


def _one_output(
    name: str,
    node: Node,
    place: Location,
    path: str,
    to: str,
    kind: str,
    given: Reference,
    matrix: Mapping[str, Any],
    context: Context,
) -> Output:
    target = node.value["path"]
    literal = frozenset({"key"} if kind == "items" else ())
    scope = Scope(context.params, matrix, steps=context.steps, literal=literal)
    where = _below(fill(target, f"{path}.path", scope), target, f"{path}.path")
    if kind == "items" and "${key}" not in where:
        raise ConfigFault(
            target.location, f"{path}.path", f"got {target.said} for items; a file an item: out/${{key}}.{to}"
        )
    given_keys = {key: fill(node.value[key], f"{path}.{key}", scope) for key in _TOLD if key in node.value}
    told = _Told(node, path, to, given_keys)
    mode = node.value.get("mode")
    if mode is not None and mode.value != "replace":
        raise ConfigFault(mode.location, f"{path}.mode", f"got {mode.said}; the one mode is replace")
    return Output(
        name,
        given,
        to,
        where,
        dict(matrix),
        partition_by=told.partition_by(),
        files=told.files(),
        attrs=told.attrs(),
        options=told.options(),
        location=place,
    )


@dataclass(frozen=True)
class _Told:
    """What an output says of its format: ``got`` holds the filled values of its keys, as far as they are there."""

    node: Node
    path: str
    to: str
    got: Mapping[str, Any]

    def wrong(self, key: str, said: str, *inner: str) -> ConfigFault:
        node = self.node.value[key]
        for name in inner:
            node = node.at(name)
        return ConfigFault(node.location, ".".join([f"{self.path}.{key}", *inner]), said)

    def for_parquet(self, key: str) -> bool:
        """Whether the key is there; one that the format has no use for is a fault."""
        if key in self.got and self.to != "parquet":
            raise self.wrong(key, f"says nothing about {self.to}; it is for parquet")
        return key in self.got

    def files(self) -> int | None:
        if not self.for_parquet("files"):
            return None
        n = self.got["files"]
        if type(n) is not int or n < 1:
            raise self.wrong("files", "write a whole number >= 1")
        return n

    def partition_by(self) -> tuple[str, ...]:
        if not self.for_parquet("partition_by"):
            return ()
        columns = self.got["partition_by"]
        if not isinstance(columns, list) or not columns or not all(isinstance(c, str) and c for c in columns):
            raise self.wrong("partition_by", f"got {columns!r}; write a list of columns: [origin]")
        twice = next((column for column in columns if columns.count(column) > 1), None)
        if twice is not None:
            raise self.wrong("partition_by", f"{twice!r} stands there more than once")
        return tuple(columns)

    def attrs(self) -> dict[str, Any]:
        attrs = self.map("attrs")
        if attrs and not FORMATS[self.to].attrs:
            holding = [name for name, form in FORMATS.items() if form.attrs]
            raise self.wrong("attrs", f"{self.to} files hold no attributes; {', '.join(holding)} do")
        return attrs

    def options(self) -> dict[str, Any]:
        options, known = self.map("options"), FORMATS[self.to].options
        for name, value in options.items():
            if name not in known:
                allowed = ", ".join(known) or "none"
                said = f"is no option of {self.to}; allowed: {allowed}{nearest(name, known)}"
                raise self.wrong("options", said, name)
            if not known[name].fits(value):
                raise self.wrong("options", f"got {value!r}; write {known[name].wanted}", name)
        return options

    def map(self, key: str) -> dict[str, Any]:
        got: Any = self.got.get(key, {})
        if not isinstance(got, dict):
            raise self.wrong(key, "write a map: {name: value}")
        return got


def _below(where: Any, node: Node, path: str) -> str:
    """An output path in its plain form, which lies below the output folder."""
    if not isinstance(where, str) or not where.strip():
        raise ConfigFault(node.location, path, f"got {node.said}; write a path")
    pieces = where.replace("\\", "/").split("/")
    if where.startswith(("/", "\\", "~")) or ".." in pieces or re.match(r"[A-Za-z]:|[A-Za-z][\w+.-]*://", where):
        raise ConfigFault(
            node.location, path, f"got {where!r}; outputs stay below the output folder (--out): no '..', no '/'"
        )
    if "\0" in where or posixpath.normpath(where) == ".":
        raise ConfigFault(node.location, path, f"got {node.said}; write a path")
    return posixpath.normpath(where)


def _apart(made: Sequence[Output], faults: FaultCollector) -> None:
    """Note outputs that would write into each other."""
    by_path: dict[str, Output] = {}
    for output in made:
        other = by_path.setdefault(output.path, output)
        if other is not output and other.name != output.name:
            faults.add(
                output.location, f"outputs.{output.name}.path", f"{output.path!r} is written by {other.name!r}, too"
            )
    for path, output in by_path.items():
        above = path
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in by_path:
                said = f"{path!r} lies within {above!r}, which {by_path[above].name!r} writes"
                faults.add(output.location, f"outputs.{output.name}.path", said)
                break


__all__ = ["always", "keep", "kind", "no_other_keys", "use"]


def use(text: ReferenceText, node: Node, path: str, context: Context) -> BoundReference:
    """What a reference means, said at ``node``.

    Raises
    ------
    Wrong : if no step has the name
    """
    if text.name not in context.known:
        if text.name in context.steps:  # the step has a fault of its own, told there
            return BoundReference(text, node.location, path, Instances(text.name, sure=False))
        hint = nearest(text.name, context.steps) or f"; steps: {', '.join(sorted(context.steps)[:10])}"
        raise ConfigFault(node.location, path, f"no step is named {text.name!r}{hint}")
    return BoundReference(text, node.location, path, context.known[text.name].copies)


def kind(text: ReferenceText, node: Node, path: str, context: Context) -> str:
    """The kind of what a reference means; empty where it is unknown."""
    known = context.known.get(text.name)
    return kind_of(text, known, node.location, path) if known is not None else ""


def no_other_keys(node: Node, path: str, allowed: tuple[str, ...], faults: FaultCollector) -> None:
    """Note each key of a map that is not among ``allowed``."""
    for key in node.value:
        if key not in allowed:
            said = f"unknown key; allowed: {', '.join(allowed)}{nearest(key, allowed)}"
            faults.add(node.keys[key], f"{path}.{key}", said)


def keep(node: Node | None, context: Context) -> tuple[str, ...]:
    """The copies named in ``keep``."""
    kept: list[str] = []
    if node is None:
        return ()
    if not node.is_list:
        raise ConfigFault(node.location, "keep", f"got {node.said}; write a list of steps")
    for i, inner in enumerate(node.value):
        path = f"keep[{i}]"
        with context.faults.caught():
            text = bare_reference(inner, path)
            meant = use(text, inner, path, context)
            other = [p for p in text.picks if p.key is not None and p.key not in meant.of.keys]
            if text.part or (other and meant.of.sure):
                raise ConfigFault(
                    inner.location, path, f"got {inner.said}; keep names whole steps, or copies: tas[A1B]"
                )
            kept += _copies_of(meant)
    return tuple(dict.fromkeys(kept))


def _copies_of(meant: BoundReference) -> list[str]:
    keys = following({}, [meant], at=meant.location, path=meant.path)
    found: list[str] = []
    for labels in expanded("", keys, [meant], excluded=(), when=always, at=meant.location).names:
        matrix = {k: values[text] for (k, values), text in zip(keys.items(), labels, strict=True)}
        found += referred(meant, matrix).copies
    return found


def always(matrix: Mapping[str, Any]) -> bool:
    """The ``when`` of what has none."""
    return True
