"""The section ``outputs``: what is written, in which format, below which path."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.config.expressions.references import ReferenceText
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Placeholder, Scope, interpolate, split_placeholders
from pipeline.config.kinds import conversion_hint, with_article
from pipeline.config.matrix import BoundReference, guessed_instance, resolve_reference
from pipeline.config.model import Output, Reference
from pipeline.config.secret_values import holds_secret
from pipeline.config.sections.format_options import OPTIONS
from pipeline.config.sections.formats import FORMATS, ONE_FILE, PICTURES
from pipeline.config.sections.keys import OutputKeys
from pipeline.config.sections.step_references import bind_reference, instances_of_references, kind_of
from pipeline.config.sections.validation import check_key_names, read, validated
from pipeline.config.step_context import Context
from pipeline.config.step_syntax import parse_bare_reference
from pipeline.config.yaml_nodes import Node
from pipeline.errors import Location, nearest

__all__ = ["outputs"]


def outputs(node: Node | None, context: Context) -> tuple[Output, ...]:
    """Return the outputs, one for each instance of what they write."""
    made: list[Output] = []
    if node is None or node.is_empty:
        return ()
    if not node.is_map:
        message = f"got {node.shown}; write a map: {{name: {{to: parquet, path: …}}}}"
        raise ConfigFault(node.location, "outputs", message)
    for name, inner in node.value.items():
        with context.faults.caught():
            made += _instances(name, inner, node.keys[name], context)
    _check_paths(made, context.faults)
    return tuple(made)


def _instances(name: str, node: Node, place: Location, context: Context) -> list[Output]:
    path = f"outputs.{name}"
    if not node.is_map:
        raise ConfigFault(place, path, f"got {node.shown}; write {{to: parquet, path: …}}")
    check_key_names(OutputKeys, node, path, place, context.faults)
    source = node.value.get("input", Node(place, name, name, folder=node.folder))
    at = f"{path}.input" if "input" in node.value else path
    reference, kind = _source(source, at, context)
    faults = context.faults
    with faults.caught():
        if "to" in node.value:
            _check_format(node.value["to"], f"{path}.to", kind, str(reference.text))
    instances = guessed_instance(name)
    with faults.caught():
        instances = instances_of_references(name, [reference], place, path)
    made = []
    n_faults = len(faults)
    for labels in instances.names:
        if len(faults) > n_faults:
            break  # the other instances have the same errors
        matrix = instances.matrix(labels)
        literal = frozenset({"key"} if kind in ("items", "") else ())
        unsure = frozenset() if instances.valid else context.matrix_keys
        scope = Scope(context.params, matrix, steps=context.steps, literal=literal, unsure=unsure)
        with faults.caught():
            output = _instance(name, node, place, scope, kind, faults)
            given = resolve_reference(reference, matrix)
            if given.gathered:
                message = f"got {source.shown}; an output writes one value: gather in a step"
                raise ConfigFault(source.location, at, message)
            if output is not None:
                made.append(replace(output, input=given, matrix=matrix))
    if len({output.path for output in made}) < len(made):
        target, matrix_keys, step = node.value["path"], instances.keys, reference.text.name
        values = "; ".join(f"{key}: {', '.join(labels)}" for key, labels in matrix_keys.items())
        missing = [key for key in matrix_keys if key not in _placeholder_names(target)] or list(matrix_keys)
        must_hold = " and ".join(f"${{{key}}}" for key in missing)
        raise ConfigFault(
            target.location,
            f"{path}.path",
            f"got {target.shown} for {len(made)} instances of {step!r} ({values}); the path must contain "
            f'{must_hold}, or gather them in a step with "{step}[*]"',
        )
    return made


def _source(node: Node, path: str, context: Context) -> tuple[BoundReference, str]:
    """Return what an output writes, and of which kind it is; an error is noted, and the kind is then empty."""
    reference = BoundReference(ReferenceText(""), node.location, path, guessed_instance(""))
    with context.faults.caught():
        text = parse_bare_reference(node, path)
        reference = bind_reference(text, node, path, context)
        return reference, kind_of(text, node, path, context)
    return replace(reference, instances=replace(reference.instances, valid=False)), ""


def _instance(name: str, node: Node, place: Location, scope: Scope, kind: str, faults: FaultCollector) -> Output | None:
    """Return an output without its input; None if its keys have errors, which are noted."""
    path, where = f"outputs.{name}", ""
    with faults.caught():
        where = (
            _path(node.value["path"], node.value.get("to"), f"{path}.path", kind, scope) if "path" in node.value else ""
        )
    keys = read(OutputKeys, node, path, scope, faults, place=place, others=True)
    if keys is None:
        return None
    options = _options(keys, node, path, faults)
    plot = _plot(keys, node, path, scope, faults)
    if not where:
        return None
    return Output(
        name,
        Reference("", ()),
        str(keys.to.text),
        where,
        partition_by=tuple(keys.partition_by),
        files=keys.files,
        attrs=keys.attrs,
        options=options,
        mode="append" if keys.mode is not None and keys.mode.value == "append" else "replace",
        overwrite=keys.overwrite,
        plot=plot,
        location=place,
        path_location=keys.path.location,
    )


def _placeholder_names(node: Node) -> set[str]:
    try:
        return {piece.head for piece in split_placeholders(node.text) if isinstance(piece, Placeholder)}
    except ValueError:
        return set()


def _check_format(to: Node, path: str, kind: str, text: str) -> None:
    """Raise a ConfigFault for a format that there is not, or that does not take values of this kind."""
    if to.text not in FORMATS:
        formats = f"{', '.join(FORMATS)}{nearest(to.text, FORMATS)}"
        raise ConfigFault(to.location, path, f"got {to.shown}; formats: {formats}")
    kinds = FORMATS[to.text].kinds
    if kind and kind not in kinds:
        fit = " or ".join(name for name, form in FORMATS.items() if kind in form.kinds)
        written = f"{with_article(kind)} {'are' if kind == 'items' else 'is'} written to {fit}"
        hint = conversion_hint(kind, kinds, text)
        raise ConfigFault(to.location, path, f"got {to.text} for {text!r} ({kind}); {written}{hint}")


def _path(node: Node, to: Node | None, path: str, kind: str, scope: Scope) -> str:
    try:
        given = interpolate(node, path, scope)
    except ConfigFault as fault:
        if not fault.consequence:
            raise
        given = "".join(piece if isinstance(piece, str) else "0" for piece in split_placeholders(node.text))
    if holds_secret(given):
        message = f"got {node.shown}; a secret can't be part of a path, which everyone sees; use ${{env:…}}"
        raise ConfigFault(node.location, path, message)
    where = _below(given, node, path)
    if kind == "items" and "${key}" not in where and (to is None or to.text not in ONE_FILE):
        suffix = to.text if to is not None else "json"
        raise ConfigFault(node.location, path, f"got {node.shown} for items; a file an item: out/${{key}}.{suffix}")
    return where


def _plot(keys: OutputKeys, node: Node, path: str, scope: Scope, faults: FaultCollector) -> dict[str, Any]:
    """Return the keys of a picture; empty for other formats, where each is noted as an error."""
    given = [key for key in ("plot", "x", "y", "by", "title") if key in node.value]
    if keys.to.text not in PICTURES:
        for key in given if keys.to.text in FORMATS else ():
            faults.add(
                node.value[key].location, f"{path}.{key}", f"does not apply to {keys.to.text}; it is for png and svg"
            )
        return {}
    if "plot" not in given:
        message = f"to: {keys.to.text} needs plot: line, bar, histogram, heatmap or map"
        faults.add(keys.to.location, path, message)
        return {}
    y = None
    if "y" in given:
        with faults.caught():
            y = interpolate(node.value["y"], f"{path}.y", scope)
            names = y if isinstance(y, list) else [y]
            if not names or not all(isinstance(name, str) and name for name in names):
                message = f"got {node.value['y'].shown}; write a name, or a list of them: [low, high]"
                raise ConfigFault(node.value["y"].location, f"{path}.y", message)
    return {"plot": keys.plot, "x": keys.x, "y": y, "by": keys.by, "title": keys.title}


def _options(keys: OutputKeys, node: Node, path: str, faults: FaultCollector) -> dict[str, Any]:
    """Return the options of the output's format, after a check of all keys that only some formats have."""
    to, mode = keys.to.text, keys.mode
    if to not in FORMATS:  # noted already
        return {}
    form = FORMATS[to]
    if mode is not None and mode.value not in ("replace", "append"):
        faults.add(mode.location, f"{path}.mode", f"got {mode.shown}; modes are replace and append")
    elif mode is not None and mode.value == "append" and to != "parquet":
        faults.add(mode.location, f"{path}.mode", f"{to} files can't grow; append is for parquet")
    elif mode is not None and mode.value == "append" and keys.overwrite:
        faults.add(mode.location, f"{path}.mode", "append replaces nothing; leave out overwrite")
    for key in {"files", "partition_by"} & keys.model_fields_set if to != "parquet" else ():
        faults.add(node.value[key].location, f"{path}.{key}", f"does not apply to {to}; it is for parquet")
    if keys.attrs and not form.attrs:
        holding = ", ".join(name for name, other in FORMATS.items() if other.attrs)
        faults.add(node.value["attrs"].location, f"{path}.attrs", f"{to} files hold no attributes; {holding} do")
    if holds_secret(keys.attrs):
        message = "got a secret; attributes are written into the files, which everyone reads; leave it out"
        faults.add(node.value["attrs"].location, f"{path}.attrs", message)
    if "options" in node.value:
        validated(OPTIONS[to], keys.options, node.value["options"], f"{path}.options", faults, owner=to)
    return keys.options


def _below(where: Any, node: Node, path: str) -> str:
    """Return an output path in its normal form, after a check that it is below the output folder."""
    if not isinstance(where, str) or not where.strip():
        raise ConfigFault(node.location, path, f"got {node.shown}; write a path")
    pieces = where.replace("\\", "/").split("/")
    if where.startswith(("/", "\\", "~")) or ".." in pieces or re.match(r"[A-Za-z]:|[A-Za-z][\w+.-]*://", where):
        raise ConfigFault(
            node.location,
            path,
            f"got {where!r}; outputs stay below the output folder (--out): no '..', no '/' at the start",
        )
    if "\0" in where or posixpath.normpath(where) == ".":
        raise ConfigFault(node.location, path, f"got {node.shown}; write a path")
    return posixpath.normpath(where)


def _check_paths(made: Sequence[Output], faults: FaultCollector) -> None:
    """Note outputs that would write into each other."""
    by_path: dict[str, Output] = {}
    for output in made:
        other = by_path.setdefault(output.path, output)
        if other is not output and other.name != output.name:
            message = f"{output.path!r} is written by {other.name!r}, too"
            faults.add(output.location, f"outputs.{output.name}.path", message)
    for path, output in by_path.items():
        above = path
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in by_path:
                message = f"{path!r} is inside {above!r}, which {by_path[above].name!r} writes"
                faults.add(output.location, f"outputs.{output.name}.path", message)
                break
