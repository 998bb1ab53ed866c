"""What a file holds besides steps: modules, outputs, checks, keep, storage, cluster, compare."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.config.binding import bound
from pipeline.config.copies import Absent, Copies, Use, expanded, following, referred
from pipeline.config.drafts import reference as bare_reference
from pipeline.config.faults import Faults, Wrong
from pipeline.config.filling import Hole, Params, Scope, fill, holes
from pipeline.config.kinds import cure, kind_of, one
from pipeline.config.nouns import Check, Output, Reference
from pipeline.config.parameters import located
from pipeline.config.source import Node
from pipeline.config.steps import Context
from pipeline.errors import Location
from pipeline.expressions import ExpressionError, ReferenceText, parse, parse_reference
from pipeline.signatures import nearest
from pipeline.signatures.base import is_type

__all__ = ["FORMATS", "checks", "keep", "modules", "outputs", "section"]

FORMATS: Mapping[str, tuple[str, ...]] = {
    "parquet": ("frame",),
    "zarr": ("array",),
    "npy": ("array", "items"),
    "csv": ("frame",),
    "json": ("frame", "value"),
    "pickle": ("items", "value"),
}
"""Output format -> the kinds it writes."""
LATER_FORMATS = ("netcdf", "text", "file")
_OUTPUT_KEYS = ("input", "to", "path", "partition_by", "files", "attrs", "mode", "options")
_CHECK_KEYS = ("that", "approx", "abs", "rel", "equals_csv", "sep", "rows", "columns")
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "cluster": (
        *("workers", "threads_per_worker", "memory_limit", "address", "class", "kwargs", "scale", "adapt", "insecure"),
        "page",
    ),
    "compare": ("backends", "repeat", "reference"),
}
_COUNT = "a whole number >= 1"
_VALUES: Mapping[tuple[str, str], tuple[Callable[[Any], bool], str]] = {
    ("cluster", "workers"): (lambda got: got == "auto" or _is_count(got), f"{_COUNT}, or auto"),
    ("cluster", "threads_per_worker"): (lambda got: _is_count(got), _COUNT),
    ("cluster", "memory_limit"): (lambda got: _is_memory(got), "bytes, or a text like 4GB, or auto"),
    ("cluster", "address"): (lambda got: got is None or isinstance(got, str), "an address: tcp://host:8786"),
    ("cluster", "class"): (lambda got: isinstance(got, str) and ":" in got, '"module:Class"'),
    ("cluster", "kwargs"): (lambda got: isinstance(got, dict), "a map of keyword arguments"),
    ("cluster", "scale"): (lambda got: _is_count(got) or isinstance(got, dict), f"{_COUNT}, or a map"),
    ("cluster", "adapt"): (lambda got: isinstance(got, dict), "a map: {minimum: 1, maximum: 10}"),
    ("cluster", "insecure"): (lambda got: isinstance(got, bool), "true or false"),
    ("cluster", "page"): (lambda got: isinstance(got, bool), "true or false"),
    ("compare", "backends"): (lambda got: _are_texts(got), "a list of back ends: [processes, dask]"),
    ("compare", "repeat"): (lambda got: _is_count(got), _COUNT),
    ("compare", "reference"): (
        lambda got: isinstance(got, dict) and list(got) == ["call"] and isinstance(got["call"], str),
        '{call: "module:function"}',
    ),
}
"""Section and key -> whether a value fits, and what does."""
_ROWS = re.compile(r"\s*(==|!=|>=|<=|>|<)\s*(\d+)\s*")


def section(name: str, node: Node | None, params: Params) -> dict[str, Any]:
    """A map of the top level as plain Python.

    Raises
    ------
    Wrong : if it is no map, or has a key that it can't have
    """
    if node is None:
        return {}
    if not node.is_map:
        raise Wrong(node.location, name, f"got {node.said}; write a map")
    allowed = _SECTIONS.get(name)
    for key, inner in node.value.items():
        if allowed is not None and key not in allowed:
            said = f"unknown key; allowed: {', '.join(allowed)}{nearest(key, allowed)}"
            raise Wrong(node.keys[key], f"{name}.{key}", said)
        if name == "storage" and not inner.is_map:
            raise Wrong(inner.location, f"storage.{key}", f"got {inner.said}; write a map of fsspec options")
    got: dict[str, Any] = fill(node, name, Scope(params))
    for key, value in got.items():
        fits, wanted = _VALUES.get((name, key), (None, ""))
        if fits is not None and not fits(value):
            inner = node.value[key]
            said = f"{inner.said}, which is {value!r}" if "${" in inner.text else inner.said
            raise Wrong(inner.location, f"{name}.{key}", f"got {said}; write {wanted}")
    return got


def _is_count(got: Any) -> bool:
    return type(got) is int and got >= 1


def _is_memory(got: Any) -> bool:
    if isinstance(got, str):
        return got == "auto" or re.fullmatch(r"\s*\d+(\.\d+)?\s*([kKMGTP]i?)?B?\s*", got) is not None
    return not isinstance(got, bool) and isinstance(got, int | float) and 0 <= got < 2**63


def _are_texts(got: Any) -> bool:
    return isinstance(got, list) and all(isinstance(one, str) for one in got)


def modules(node: Node | None, params: Params, faults: Faults) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Importable names, and absolute paths of what is to be shipped."""
    importable: list[str] = []
    shipped: list[str] = []
    if node is None:
        return (), ()
    if not node.is_list:
        faults.add(node.location, "modules", f"got {node.said}; write a list: [scipy.ndimage, ./my.py]")
        return (), ()
    for i, inner in enumerate(node.value):
        with faults.caught():
            path = f"modules[{i}]"
            text = fill(inner, path, Scope(params))
            if not isinstance(text, str) or not text:
                raise Wrong(inner.location, path, f"got {inner.said}; write an importable name, or ./file.py")
            if text.startswith((".", "/")) or text.endswith((".py", "/")):
                shipped.append(_shipped(text, inner, path))
            elif re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", text):
                importable.append(text)
            else:
                raise Wrong(inner.location, path, f"got {inner.said}; write an importable name, or ./file.py")
    return tuple(dict.fromkeys(importable)), tuple(dict.fromkeys(shipped))


def _shipped(text: str, node: Node, path: str) -> str:
    full = located(text, node.folder)
    name = os.path.basename(full)
    if not os.path.exists(full):
        raise Wrong(node.location, path, f"there is no {full}")
    if os.path.isfile(full) and not name.endswith(".py"):
        raise Wrong(node.location, path, f"got {text!r}; a module is a .py file or a folder")
    if not name.removesuffix(".py").isidentifier():
        raise Wrong(node.location, path, f"{name!r} can't be imported: its name is no Python name")
    return full


def importable_names(importable: Sequence[str], shipped: Sequence[str]) -> frozenset[str]:
    """The names by which a call may name its module."""
    return frozenset([*importable, *(os.path.basename(p).removesuffix(".py") for p in shipped)])


# ---------------------------------------------------------------------------------------------------------------------
# References from outside the steps
# ---------------------------------------------------------------------------------------------------------------------


def _use(text: ReferenceText, node: Node, path: str, context: Context) -> Use:
    if text.name not in context.known:
        if text.name in context.steps:  # the step has a fault of its own, told there
            return Use(text, node.location, path, Copies(text.name, sure=False))
        hint = nearest(text.name, context.steps) or f"; steps: {', '.join(sorted(context.steps)[:10])}"
        raise Wrong(node.location, path, f"no step is named {text.name!r}{hint}")
    return Use(text, node.location, path, context.known[text.name].copies)


def _kind(text: ReferenceText, node: Node, path: str, context: Context) -> str:
    known = context.known.get(text.name)
    return kind_of(text, known, node.location, path) if known is not None else ""


def _unknown_keys(node: Node, path: str, allowed: tuple[str, ...], faults: Faults) -> None:
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
        raise Wrong(node.location, "keep", f"got {node.said}; write a list of steps")
    for i, inner in enumerate(node.value):
        path = f"keep[{i}]"
        with context.faults.caught():
            text = bare_reference(inner, path)
            use = _use(text, inner, path, context)
            if text.part or any(p.is_slice for p in text.picks):
                raise Wrong(inner.location, path, f"got {inner.said}; keep names whole steps, or copies: tas[A1B]")
            kept += _copies_of(use)
    return tuple(dict.fromkeys(kept))


def _copies_of(use: Use) -> list[str]:
    keys = following({}, [use], at=use.location, path=use.path)
    found: list[str] = []
    for labels in expanded("", keys, [use], excluded=(), when=_always, at=use.location).names:
        matrix = {k: values[text] for (k, values), text in zip(keys.items(), labels, strict=True)}
        found += referred(use, matrix).copies
    return found


def _always(matrix: Mapping[str, Any]) -> bool:
    return True


# ---------------------------------------------------------------------------------------------------------------------
# Outputs
# ---------------------------------------------------------------------------------------------------------------------


def outputs(node: Node | None, context: Context) -> tuple[Output, ...]:
    """The outputs, one for each copy of what they write."""
    made: list[Output] = []
    if node is None or node.is_empty:
        return ()
    if not node.is_map:
        raise Wrong(node.location, "outputs", f"got {node.said}; write a map: {{name: {{to: parquet, path: …}}}}")
    for name, inner in node.value.items():
        with context.faults.caught():
            made += _output(name, inner, node.keys[name], context)
    _apart(made, context.faults)
    return tuple(made)


def _output(name: str, node: Node, place: Location, context: Context) -> list[Output]:
    path = f"outputs.{name}"
    if not node.is_map:
        raise Wrong(place, path, f"got {node.said}; write {{to: parquet, path: …}}")
    _unknown_keys(node, path, _OUTPUT_KEYS, context.faults)
    if "partition_by" in node.value:
        context.faults.add(node.keys["partition_by"], f"{path}.partition_by", "partition_by is not built yet")
    source = node.value.get("input", Node(place, name, name, folder=node.folder))
    at = f"{path}.input" if "input" in node.value else path
    text = bare_reference(source, at)
    use = _use(text, source, at, context)
    kind = _kind(text, source, at, context)
    to = _format(node, place, path, kind, str(text))
    if "path" not in node.value:
        raise Wrong(place, path, "needs path: where to write, below the output folder")
    keys = following({}, [use], at=place, path=path)
    copies = expanded(name, keys, [use], excluded=(), when=_always, at=place)
    made = []
    for labels in copies.names:
        matrix = copies.matrix(labels)
        try:
            given = referred(use, matrix)
        except Absent:
            continue
        if given.gathered:
            raise Wrong(source.location, at, f"got {source.said}; an output writes one value: gather in a step")
        made.append(_one_output(name, node, place, path, to, kind, given, matrix, context))
    if made and len({o.path for o in made}) < len(made):
        target, lists = node.value["path"], "; ".join(f"{k}: {', '.join(v)}" for k, v in keys.items())
        lacking = [k for k in keys if k not in _names_in(target)] or list(keys)
        raise Wrong(
            target.location,
            f"{path}.path",
            f"got {target.said} for {len(made)} copies of {text.name!r} ({lists}); the path must hold "
            f'{" and ".join(f"${{{k}}}" for k in lacking)}, or gather them in a step with "{text.name}[*]"',
        )
    return made


def _names_in(node: Node) -> set[str]:
    try:
        return {piece.head for piece in holes(node.text) if isinstance(piece, Hole)}
    except ValueError:
        return set()


def _format(node: Node, place: Location, path: str, kind: str, text: str) -> str:
    if "to" not in node.value:
        raise Wrong(place, path, f"needs to: one of {', '.join(FORMATS)}")
    to = node.value["to"]
    if to.text in LATER_FORMATS:
        raise Wrong(to.location, f"{path}.to", f"outputs to {to.text!r} are not built yet")
    if to.text not in FORMATS:
        raise Wrong(
            to.location, f"{path}.to", f"got {to.said}; formats: {', '.join(FORMATS)}{nearest(to.text, FORMATS)}"
        )
    kinds = FORMATS[to.text]
    if kind and kind not in kinds:
        fit = [f for f, takes in FORMATS.items() if kind in takes]
        hint = cure(kind, kinds, text)
        raise Wrong(
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
        raise Wrong(target.location, f"{path}.path", f"got {target.said} for items; a file an item: out/${{key}}.{to}")
    files = fill(node.value["files"], f"{path}.files", scope) if "files" in node.value else None
    if files is not None and (type(files) is not int or files < 1):
        raise Wrong(node.value["files"].location, f"{path}.files", "write a whole number >= 1")
    if files is not None and to != "parquet":
        raise Wrong(node.value["files"].location, f"{path}.files", f"says nothing about {to}; it is for parquet")
    mode = node.value.get("mode")
    if mode is not None and mode.value != "replace":
        raise Wrong(mode.location, f"{path}.mode", f"got {mode.said}; the one mode is replace")
    maps: dict[str, Any] = {}
    for key in ("attrs", "options"):
        inner = node.value.get(key)
        maps[key] = fill(inner, f"{path}.{key}", scope) if inner is not None else {}
        if not isinstance(maps[key], dict):
            raise Wrong(node.value[key].location, f"{path}.{key}", "write a map: {name: value}")
    return Output(name, given, to, where, dict(matrix), files=files, location=place, **maps)


def _below(where: Any, node: Node, path: str) -> str:
    """An output path in its plain form, which lies below the output folder."""
    if not isinstance(where, str) or not where.strip():
        raise Wrong(node.location, path, f"got {node.said}; write a path")
    pieces = where.replace("\\", "/").split("/")
    if where.startswith(("/", "\\", "~")) or ".." in pieces or re.match(r"[A-Za-z]:|[A-Za-z][\w+.-]*://", where):
        raise Wrong(
            node.location, path, f"got {where!r}; outputs stay below the output folder (--out): no '..', no '/'"
        )
    if "\0" in where or posixpath.normpath(where) == ".":
        raise Wrong(node.location, path, f"got {node.said}; write a path")
    return posixpath.normpath(where)


def _apart(made: Sequence[Output], faults: Faults) -> None:
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


# ---------------------------------------------------------------------------------------------------------------------
# Checks
# ---------------------------------------------------------------------------------------------------------------------


def checks(node: Node | None, context: Context) -> tuple[Check, ...]:
    """The checks, one for each combination of the matrix keys that they follow."""
    made: list[Check] = []
    if node is None or node.is_empty:
        return ()
    if not node.is_list:
        raise Wrong(node.location, "checks", f"got {node.said}; write a list: [{{that: …, rows: '>= 1'}}]")
    for i, inner in enumerate(node.value):
        with context.faults.caught():
            made += _check(inner, f"checks[{i}]", context)
    return tuple(made)


def _check(node: Node, path: str, context: Context) -> list[Check]:
    if not node.is_map or "that" not in node.value:
        raise Wrong(node.location, path, f"got {node.said}; a check is a map with that: {{that: …, rows: '>= 1'}}")
    _unknown_keys(node, path, _CHECK_KEYS, context.faults)
    that = node.value["that"]
    if not isinstance(that.value, str):
        raise Wrong(that.location, f"{path}.that", f"got {that.said}; write a step, or an expression in quotes")
    at = f"{path}.that"
    texts, parsed = _that(that, at)
    uses = [_use(text, that, at, context) for text in texts]
    kinds = [_kind(text, that, at, context) for text in texts]
    options = _check_options(node, path, context)
    if {"rows", "columns"} & set(options) and (parsed is not None or kinds[0] not in ("frame", "")):
        raise Wrong(that.location, at, f"got {that.said}; rows and columns are checked of a frame")
    keys = following({}, uses, at=node.location, path=path)
    copies = expanded("", keys, uses, excluded=(), when=_always, at=node.location)
    made = []
    for labels in copies.names:
        matrix = copies.matrix(labels)
        given = {text: referred(use, matrix) for text, use in zip(texts, uses, strict=True)}
        if any(g.gathered for g in given.values()):
            raise Wrong(that.location, at, f"got {that.said}; a check is of one copy: gather in a step")
        what: Any = next(iter(given.values()), None)
        if parsed is not None:
            what = bound(parsed, that, at, context.scope(None, matrix), given)
        made.append(Check(what, that.value, location=node.location, **options))
    return made


def _that(node: Node, path: str) -> tuple[list[ReferenceText], Any]:
    """The references of ``that``, and the expression if it is more than one reference alone."""
    try:
        return [parse_reference(node.value)], None
    except ExpressionError:
        pass
    try:
        parsed = parse(node.value, "arrays")
    except ExpressionError as error:
        raise Wrong(node.location, path, str(error)) from None
    extra = []
    for text in parsed.outside:
        try:
            extra.append(parse_reference(text))
        except ExpressionError:
            continue
    return list(parsed.named), parsed


def _check_options(node: Node, path: str, context: Context) -> dict[str, Any]:
    scope = Scope(context.params)
    got = {
        key: fill(node.value[key], f"{path}.{key}", scope) for key in _CHECK_KEYS if key in node.value and key != "that"
    }

    def wrong(key: str, said: str) -> Wrong:
        return Wrong(node.value[key].location, f"{path}.{key}", f"got {node.value[key].said}; {said}")

    for key in ("approx", "abs", "rel"):
        if key in got and (isinstance(got[key], bool) or not isinstance(got[key], int | float)):
            raise wrong(key, "write a number")
    if "approx" in got and not {"abs", "rel"} & set(got):
        raise wrong("approx", "say how near: abs or rel")
    for key, partners in (("abs", ("approx",)), ("rel", ("approx", "equals_csv")), ("sep", ("equals_csv",))):
        if key in got and not set(partners) & set(got):
            raise wrong(key, f"it says how {' or '.join(partners)} compares, which is not here")
    if type(got.get("rows")) is int:
        got["rows"] = f"== {got['rows']}"
    if "rows" in got and not (isinstance(got["rows"], str) and _ROWS.fullmatch(got["rows"])):
        raise wrong("rows", 'write a comparison: ">= 1"')
    for key in ("equals_csv", "sep"):
        if key in got and (not isinstance(got[key], str) or not got[key]):
            raise wrong(key, "write a text")
    if "equals_csv" in got:
        got["equals_csv"] = located(got["equals_csv"], node.value["equals_csv"].folder)
    if "columns" in got:
        columns = got["columns"]
        if not isinstance(columns, dict) or not all(isinstance(t, str) and is_type(t) for t in columns.values()):
            raise wrong("columns", "write a map of types: {name: float64}")
    kinds = [k for k in ("approx", "equals_csv", "rows", "columns") if k in got]
    if len(kinds) > 1 and set(kinds) != {"rows", "columns"}:
        raise wrong(kinds[1], f"stands beside {kinds[0]}; write two checks")
    return got
