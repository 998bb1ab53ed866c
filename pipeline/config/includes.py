"""One tree from a file, the files that it includes, and the params that the command line changes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pipeline.config import files_read, yaml_nodes
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.yaml_nodes import Node
from pipeline.errors import Location, nearest

__all__ = ["changed_params", "merge_includes", "read"]

MOST_INCLUDES = 50


def read(path: str, *, folder: str | None = None) -> Node:
    """Read the tree of a file.

    Parameters
    ----------
    folder : what paths in it are relative to; default: the folder of the file

    Raises
    ------
    ConfigFault : if it can't be read, or is not YAML
    """
    try:
        files_read.note(path)
        with open(path, "rb") as file:
            data = file.read(yaml_nodes.MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigFault(Location(path), "", f"{error.strerror or error}") from None
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        place = Location(path, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise ConfigFault(place, "", f"got the byte {error.object[error.start]:#04x}; a file is UTF-8 text") from None
    return yaml_nodes.parse(text, path, folder or os.path.dirname(os.path.abspath(path)))


def merge_includes(main: Node, *, folder: str | None, faults: FaultCollector, warnings: list[str]) -> Node:
    """Merge the files that ``main`` includes, in order, and ``main`` over them.

    Maps are merged key by key; a step or a list is replaced whole, and a warning notes a replaced step.

    Raises
    ------
    ConfigFault : if an included file can't be read, or a file includes itself
    """
    return _merge(main, folder, (), [0], warnings)


def _merge(main: Node, folder: str | None, above: tuple[str, ...], count: list[int], warnings: list[str]) -> Node:
    include = main.at("include") if main.is_map and "include" in main.value else None
    if include is None:
        return main
    if not include.is_list:
        raise ConfigFault(include.location, "include", f"got {include.shown}; write a list of files: [base.yaml]")
    base: Node | None = None
    for i, node in enumerate(include.value):
        if not isinstance(node.value, str):
            raise ConfigFault(node.location, f"include[{i}]", f"got {node.shown}; an entry is the path of a file")
        path = os.path.join(os.path.dirname(node.location.file), node.value)
        if not os.path.exists(path):
            path = os.path.join(node.folder, node.value)
        full = os.path.realpath(path)
        count[0] += 1
        if full in above or count[0] > MOST_INCLUDES:
            message = "includes itself" if full in above else f"more than {MOST_INCLUDES} files are included"
            raise ConfigFault(node.location, f"include[{i}]", f"{node.value!r}: {message}")
        try:
            tree = read(path, folder=folder)
        except ConfigFault as error:
            if error.fault.location.line:  # the file is there, and the error is in it
                raise
            raise ConfigFault(node.location, f"include[{i}]", f"{node.value!r}: {error.fault.message}") from None
        tree = _merge(tree, folder, (*above, full), count, warnings)
        if not tree.is_map:
            raise ConfigFault(tree.location, "", f"got {tree.shown}; an included file is a map")
        base = tree if base is None else _over(base, tree, "", warnings)
    return main if base is None else _over(base, main, "", warnings)


def _over(below: Node, above: Node, path: str, warnings: list[str] | None) -> Node:
    """Return ``above`` merged over ``below``."""
    if not (below.is_map and above.is_map):
        return above
    both = Node(above.location, dict(below.value), keys={**below.keys, **above.keys}, folder=above.folder)
    for key, node in above.value.items():
        inner = f"{path}.{key}" if path else key
        old = below.value.get(key)
        if old is not None and path == "steps":
            if warnings is not None:
                warnings.append(f"{above.keys[key]}: {inner}: replaces the step of {below.keys[key]}")
            both.value[key] = node
        else:
            both.value[key] = node if old is None else _over(old, node, inner, warnings)
    return both


def changed_params(
    params: Node | None, *, sets: Mapping[str, str | Node], files: Iterable[str], faults: FaultCollector
) -> dict[str, Node]:
    """Return the params of the file, changed by params files and then by ``--set``.

    A param that the file doesn't have is an error: a misspelt one would otherwise change nothing, silently.
    """
    if params is not None and not params.is_map:
        if not params.is_empty:
            faults.add(params.location, "params", f"got {params.shown}; write a map: {{name: value}}")
        params = None
    tree = params or Node(Location("params", 0, 0), {})
    for path in files:
        with faults.caught():
            given = read(path)
            if not given.is_map:
                raise ConfigFault(given.location, "", f"got {given.shown}; a params file is a map of params")
            _check_known(given, tree)
            tree = _over(tree, given, "params", None)
    for name, value in sets.items():
        with faults.caught():
            tree = _set(tree, name, value if isinstance(value, Node) else _parsed(name, value))
    return dict(tree.value)


def _check_known(given: Node, tree: Node) -> None:
    for name in given.value:
        if name not in tree.value:
            raise ConfigFault(given.keys[name], name, f"the file has no param {name!r}{_hint(name, tree)}")


def _hint(name: str, tree: Node) -> str:
    has = f"; it has {', '.join(tree.value)}" if tree.value else ""
    return nearest(name, tree.value) or has


def _parsed(name: str, text: str) -> Node:
    """Parse the value of ``--set``; the place of all of it is ``--set name``."""
    place = Location(f"--set {name}", 0, 0)
    return replace(yaml_nodes.parse(text, place.file, os.getcwd()), location=place)


def _set(tree: Node, name: str, value: Node) -> Node:
    names = name.removeprefix("params.").split(".") if "params" not in tree.value else name.split(".")
    return _replaced(tree, names, value, value.location, ())


def _replaced(below: Node, names: list[str], value: Node, place: Location, above: tuple[str, ...]) -> Node:
    """Return ``below`` with ``value`` at the keys ``names``."""
    if not names:
        return value
    name, *rest = names
    if not below.is_map or name not in below.value:
        within, what = (f"param {'.'.join(above)!r}", "key") if above else ("the file", "param")
        raise ConfigFault(place, "", f"{within} has no {what} {name!r}{_hint(name, below) if below.is_map else ''}")
    inner = _replaced(below.value[name], rest, value, place, (*above, name))
    return Node(below.location, {**below.value, name: inner}, keys={**below.keys, name: place}, folder=below.folder)
