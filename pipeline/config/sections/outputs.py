"""The outputs of a file: what is written, in which format, below which path."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import Any

from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Placeholder, Scope, fill, holes
from pipeline.config.kinds import cure, one
from pipeline.config.matrix import Absent, expanded, following, referred
from pipeline.config.model import Output
from pipeline.config.sections.formats import FORMATS
from pipeline.config.sections.keys import OutputKeys
from pipeline.config.sections.outside_references import always, kind, use
from pipeline.config.sections.validation import read, validated
from pipeline.config.step_context import Context
from pipeline.config.step_syntax import reference as bare_reference
from pipeline.config.yaml_nodes import Node
from pipeline.errors import Location, nearest

__all__ = ["outputs"]


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
    source = node.value.get("input", Node(place, name, name, folder=node.folder))
    at = f"{path}.input" if "input" in node.value else path
    text = bare_reference(source, at)
    meant = use(text, source, at, context)
    sort = kind(text, source, at, context)
    if "to" in node.value:
        _check_format(node.value["to"], f"{path}.to", sort, str(text))
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
        scope = Scope(
            context.params, matrix, steps=context.steps, literal=frozenset({"key"} if sort == "items" else ())
        )
        given_keys = read(OutputKeys, node, path, scope, context.faults, place=place)
        if given_keys is None:
            return []
        made.append(
            Output(
                name,
                given,
                str(given_keys.to.text),
                _path(given_keys, path, sort, scope),
                matrix,
                partition_by=tuple(given_keys.partition_by),
                files=given_keys.files,
                attrs=given_keys.attrs,
                options=_options(given_keys, node, path, context.faults),
                location=place,
            )
        )
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


def _check_format(to: Node, path: str, kind: str, text: str) -> None:
    """Raise a ConfigFault for a format that there is not, or that does not take values of this kind."""
    if to.text not in FORMATS:
        formats = f"{', '.join(FORMATS)}{nearest(to.text, FORMATS)}"
        raise ConfigFault(to.location, path, f"got {to.said}; formats: {formats}")
    kinds = FORMATS[to.text].kinds
    if kind and kind not in kinds:
        fit = " or ".join(name for name, form in FORMATS.items() if kind in form.kinds)
        written = f"{one(kind)} {'are' if kind == 'items' else 'is'} written to {fit}{cure(kind, kinds, text)}"
        raise ConfigFault(to.location, path, f"got {to.text} for {text!r} ({kind}); {written}")


def _path(keys: OutputKeys, path: str, kind: str, scope: Scope) -> str:
    where = _below(fill(keys.path, f"{path}.path", scope), keys.path, f"{path}.path")
    if kind == "items" and "${key}" not in where:
        got = f"got {keys.path.said} for items; a file an item: out/${{key}}.{keys.to.text}"
        raise ConfigFault(keys.path.location, f"{path}.path", got)
    return where


def _options(keys: OutputKeys, node: Node, path: str, faults: FaultCollector) -> dict[str, Any]:
    """Return the options of the output's format, after a check of all keys that only some formats have."""
    to, mode = keys.to.text, keys.mode
    form = FORMATS[to]
    if mode is not None and mode.value != "replace":
        faults.add(mode.location, f"{path}.mode", f"got {mode.said}; the one mode is replace")
    for key in {"files", "partition_by"} & keys.model_fields_set if to != "parquet" else ():
        faults.add(node.value[key].location, f"{path}.{key}", f"does not apply to {to}; it is for parquet")
    if keys.attrs and not form.attrs:
        holding = ", ".join(name for name, other in FORMATS.items() if other.attrs)
        faults.add(node.value["attrs"].location, f"{path}.attrs", f"{to} files hold no attributes; {holding} do")
    if "options" in node.value:
        validated(form.options, keys.options, node.value["options"], f"{path}.options", faults, owner=to)
    return keys.options


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
