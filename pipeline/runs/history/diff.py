"""What changed from one run folder to another: config, code, versions, machine, inputs, graph, and times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from pipeline.runs.history.read import RunFolder
from pipeline.runs.history.result import NOT_RECORDED, Change, Difference
from pipeline.runs.history.schema import Unreadable, document
from pipeline.runs.history.verdict import case_times, judged
from pipeline.runs.report_model import Input

__all__ = ["Change", "Difference", "diff"]

_MOST_TEXT = 300_000  # characters of YAML that are parsed, which takes two seconds
_MOST_LEAVES = 50_000
_DEEPEST = 40
_MACHINE = ("machine", "processor", "cores", "memory", "platform")


def diff(a: RunFolder, b: RunFolder) -> Difference:
    """Compare two run folders, whatever state they are in."""
    changes: dict[str, tuple[Change, ...]] = {}
    unknown: dict[str, str] = {}
    for about, compare in _ABOUT.items():
        differing = compare(a, b) if not _same(a, b) else []
        if isinstance(differing, str):
            unknown[about] = differing
        changes[about] = () if isinstance(differing, str) else tuple(differing)
    notes: list[str] = []
    found = Difference(a, b, changes, unknown, tuple(case_times(a, b, notes)), notes=tuple(notes))
    return replace(found, judged=judged(found))


def _same(a: RunFolder, b: RunFolder) -> bool:
    return a.folder.resolve() == b.folder.resolve()


# ---------------------------------------------------------------------------------------------------------------------
# Each returns the changes, or why nothing is known
# ---------------------------------------------------------------------------------------------------------------------


def _config(a: RunFolder, b: RunFolder) -> list[Change] | str:
    texts = (a.config, b.config)
    if texts[0] is not None and texts[0] == texts[1]:
        return []
    try:
        if texts[0] is not None and texts[1] is not None:
            trees = [_parsed(text) for text in (texts[0], texts[1])]
        else:
            trees = [document(run.folder / "config.json") for run in (a, b)]
            if any(tree is None for tree in trees):
                return _lacking(a, b, [tree is not None for tree in trees])
        old, new = (dict(_leaves(tree)) for tree in trees)
    except Unreadable as error:
        return f"they differ, but can't be compared: {error}"
    return _changed(old, new)


def _code(a: RunFolder, b: RunFolder) -> list[Change] | str:
    if a.code is None or b.code is None:
        return _lacking(a, b, [a.code is not None, b.code is not None])
    return _changed(a.code, b.code)


def _versions(a: RunFolder, b: RunFolder) -> list[Change] | str:
    found: list[Mapping[str, Any]] = []
    for run in (a, b):
        if run.environment is not None:
            found.append({"python": run.environment.python, **run.environment.versions})
            continue
        try:
            recorded = document(run.folder / "versions.json")
        except Unreadable as error:
            return str(error)
        if not isinstance(recorded, dict):
            return _lacking(a, b, [r.environment is not None for r in (a, b)])
        found.append({str(name): str(version) for name, version in recorded.items()})
    return _changed(*found)


def _machine(a: RunFolder, b: RunFolder) -> list[Change] | str:
    if a.environment is None or b.environment is None:
        return _lacking(a, b, [a.environment is not None, b.environment is not None])
    old, new = ({name: getattr(e, name) for name in _MACHINE} for e in (a.environment, b.environment))
    return _changed(old, new)


def _inputs(a: RunFolder, b: RunFolder) -> list[Change] | str:
    if a.inputs is None or b.inputs is None:
        return _lacking(a, b, [a.inputs is not None, b.inputs is not None])
    found = []
    for path in dict.fromkeys([*a.inputs, *b.inputs]):
        old, new = a.inputs.get(path), b.inputs.get(path)
        kind = _input_kind(old, new)
        if kind:
            partial = any(one.partial for one in (old, new) if one)
            found.append(Change(path, kind, _dumped(old), _dumped(new), partial))
    return found


def _dumped(one: Input | None) -> dict[str, Any] | None:
    return one.model_dump(exclude_defaults=True) if one else None


def _input_kind(old: Input | None, new: Input | None) -> Literal["changed", "added", "removed", "unsure", ""]:
    """Return how an input changed; empty if it did not."""
    if old is None or new is None:
        return "removed" if new is None else "added"
    if old.bytes != new.bytes and None not in (old.bytes, new.bytes):
        return "changed"
    known = not {"unknown", None} & {old.sha256, new.sha256}
    if known and old.partial == new.partial and old.sha256 != new.sha256:
        return "changed"
    if known and not old.partial and not new.partial:
        return ""
    if old.etag and new.etag:
        return "" if old.etag == new.etag else "changed"
    stamps = [(one.bytes, one.mtime_ns, one.modified) for one in (old, new)]
    dated = all(one.bytes is not None and (one.mtime_ns is not None or one.modified) for one in (old, new))
    return "" if dated and stamps[0] == stamps[1] else "unsure"


def _graph(a: RunFolder, b: RunFolder) -> list[Change] | str:
    if not a.fingerprint or not b.fingerprint:
        return _lacking(a, b, [bool(a.fingerprint), bool(b.fingerprint)])
    return _changed({"graph": a.fingerprint}, {"graph": b.fingerprint})


_ABOUT = {"config": _config, "code": _code, "versions": _versions, "machine": _machine, "inputs": _inputs,
          "graph": _graph}  # fmt: skip


def _lacking(a: RunFolder, b: RunFolder, there: list[bool]) -> str:
    if not any(there):
        return NOT_RECORDED
    return f"{NOT_RECORDED} in {'B' if there[0] else 'A'}"


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    found = []
    for path in dict.fromkeys([*old, *new]):
        if path not in new:
            found.append(Change(path, "removed", old[path]))
        elif path not in old:
            found.append(Change(path, "added", None, new[path]))
        elif old[path] != new[path]:
            found.append(Change(path, "changed", old[path], new[path]))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# A file's values by their dotted paths
# ---------------------------------------------------------------------------------------------------------------------


def _parsed(text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if len(text) > _MOST_TEXT:
        raise Unreadable(f"the resolved file is longer than {_MOST_TEXT:,} characters")
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, TypeError, RecursionError, AttributeError, KeyError) as error:
        raise Unreadable(
            f"the resolved file is not YAML: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the values in a tree with their dotted paths; a list without maps counts as one value.

    Raises
    ------
    Unreadable : if the tree is too deep or too large (aliases can make a small file very large)
    """
    left = [_MOST_LEAVES]

    def walk(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
        left[0] -= 1
        if depth > _DEEPEST or left[0] < 0:
            raise Unreadable("the resolved file is nested too deeply, or too long")
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                yield from walk(inner, f"{path}.{key}" if path else str(key), depth + 1)
        elif isinstance(value, list) and any(isinstance(inner, Mapping | list) for inner in value):
            for i, inner in enumerate(value):
                yield from walk(inner, f"{path}[{i}]", depth + 1)
        else:
            yield path, _plain(value)

    return walk(tree, "", 0)


def _plain(value: Any) -> Any:
    """Return a value of YAML as a plain value."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return [_plain(inner) for inner in value] if isinstance(value, list) else str(value)
