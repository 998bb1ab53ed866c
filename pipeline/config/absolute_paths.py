"""Input paths made absolute: one path, or all those of a Config's tree, so that it means the same wherever it is read.

The beginning of a path decides: text, or a ``${…}`` that is relative in the file's own values, gets the folder before
it; an absolute path or a URL stays as it is. All other ``${…}``, secrets too, are left as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import Params, Placeholder, Scope, interpolate, split_placeholders
from pipeline.config.model import Config
from pipeline.config.signatures import OPS
from pipeline.config.yaml_nodes import Node
from pipeline.errors import ConfigError

__all__ = ["absolute_path", "with_absolute_paths"]

_FILE = "file:"
_HOME = "~/"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def absolute_path(path: str, folder: str) -> str:
    """Return an input path as an absolute one; URLs stay as they are, ``~/`` is the home folder."""
    path = os.path.expanduser(path) if path.startswith(_HOME) else path
    return path if _URL.match(path) else os.path.normpath(os.path.join(folder, path))


def with_absolute_paths(config: Config) -> Node:
    """Return the tree of a Config with absolute input paths, and with its name even if that is the default.

    Raises
    ------
    ConfigError : for a path that is relative in one instance of a step and absolute in another
    """
    tree = config.tree
    name = Node(tree.location, config.name, config.name, folder=tree.folder)
    values = {"version": tree.value["version"], "name": tree.value.get("name", name)}
    values |= {key: node for key, node in tree.value.items() if not node.is_empty}
    matrices: dict[str, list[Mapping[str, Any]]] = {}
    for step in config.all_steps.values():
        matrices.setdefault(step.step, []).append(step.matrix)
    try:
        return _Absolute(Params(_params(values)), matrices).tree(replace(tree, value=values))
    except ConfigFault as error:
        raise ConfigError([error.fault]) from None


def _params(values: Mapping[str, Node]) -> Mapping[str, Node]:
    return values["params"].value if "params" in values else {}


class _Absolute:
    """Makes the paths of one tree absolute."""

    def __init__(self, params: Params, matrices: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self.params, self.matrices = params, matrices

    def tree(self, tree: Node) -> Node:
        values = {key: self.files(node, key, [{}]) for key, node in tree.value.items() if key != "steps"}
        for key in ("modules", "checks"):
            if key in values and values[key].is_list:
                entry = self.module if key == "modules" else self.check
                made = [entry(node, f"{key}[{i}]") for i, node in enumerate(values[key].value)]
                values[key] = replace(values[key], value=made)
        if "cache" in values and values["cache"].is_map:
            values["cache"] = self.changed(values["cache"], "dir", "cache.dir", [{}])
        elif "cache" in values:
            values["cache"] = self.path(values["cache"], "cache", [{}])
        if "authkey_file" in values.get("cluster", tree).value:
            values["cluster"] = self.changed(values["cluster"], "authkey_file", "cluster.authkey_file", [{}])
        steps = tree.value["steps"]
        values["steps"] = replace(steps, value={name: self.step(name, node) for name, node in steps.value.items()})
        return replace(tree, value={key: values[key] for key in tree.value})

    def step(self, name: str, node: Node) -> Node:
        matrices = self.matrices.get(name, [])
        node = self.files(node, f"steps.{name}", matrices)
        op = node.value.get("op")
        for key in dict.fromkeys(key for cls in (OPS[op.text] if op is not None else ()) for key in cls.paths()):
            if key in node.value:
                node = self.changed(node, key, f"steps.{name}.{key}", matrices)
        if "depends_on" in node.value:
            node = self.changed(node, "depends_on", f"steps.{name}.depends_on", matrices)
        if "command" in node.value:
            node = replace(node, value={**node.value, "command": self.argv(node.value["command"], name, matrices)})
            return self.changed(node, "cwd", f"steps.{name}.cwd", matrices) if "cwd" in node.value else node
        return node

    def argv(self, node: Node, name: str, matrices: Sequence[Mapping[str, Any]]) -> Node:
        """Make the program absolute if it is a path; one that is unknown until run time is left as it is."""
        path = f"steps.{name}.command[0]"
        program, *rest = node.value
        try:
            got = [interpolate(program, path, Scope(self.params, matrix)) for matrix in matrices]
        except ConfigFault:
            return node
        if any(isinstance(one, list) for one in got):
            program, *more = self.listed(program, path).value
            return self.argv(replace(node, value=[program, *more, *rest]), name, matrices)
        return replace(node, value=[self.path(program, path, matrices), *rest]) if "/" in str(got[:1]) else node

    def check(self, node: Node, path: str) -> Node:
        return self.changed(node, "equals_csv", f"{path}.equals_csv", [{}]) if "equals_csv" in node.value else node

    def module(self, node: Node, path: str) -> Node:
        text = str(interpolate(node, path, Scope(self.params)))
        is_path = text.startswith((".", "/")) or text.endswith((".py", "/"))
        return self.path(node, path, [{}]) if is_path else node

    def changed(self, node: Node, key: str, path: str, matrices: Sequence[Mapping[str, Any]]) -> Node:
        return replace(node, value={**node.value, key: self.path(node.value[key], path, matrices)})

    def path(self, node: Node, path: str, matrices: Sequence[Mapping[str, Any]]) -> Node:
        """Return a path, or a list of paths, made absolute in all instances."""
        if node.is_list:
            return replace(node, value=[self.path(one, f"{path}[{i}]", matrices) for i, one in enumerate(node.value)])
        if not isinstance(node.value, str) or not node.value:
            return node
        got = [interpolate(node, path, Scope(self.params, matrix)) for matrix in matrices]
        if any(isinstance(one, list) for one in got):
            return self.path(self.listed(node, path), path, matrices)
        return self.prefixed(node, path, [str(one) for one in got])

    def listed(self, node: Node, path: str) -> Node:
        """Return the list that a whole ``${…}`` stands for, as it is written."""
        (placeholder,) = split_placeholders(node.value)
        found = Node(node.location, dict(self.params.nodes))
        if isinstance(placeholder, Placeholder) and placeholder.head in self.params:
            found = found.at(*placeholder.text.split("."))
        else:  # a file, or the environment: as it is now
            texts = [str(one) for one in interpolate(node, path, Scope(self.params))]
            found = Node(node.location, [Node(node.location, _escaped(text), _escaped(text)) for text in texts])
        if found.is_list:
            return replace(found, value=[replace(one, folder=node.folder) for one in found.value])
        return self.listed(found, path)

    def prefixed(self, node: Node, path: str, got: Iterable[str]) -> Node:
        fixed = {text.startswith(("/", _HOME)) or absolute_path(text, "/") == text for text in got}
        if fixed == {True} or not fixed:
            return node
        if len(fixed) > 1:
            message = (
                f"got {node.shown}, absolute in one instance and relative in another; such a file can't be written"
            )
            raise ConfigFault(node.location, path, message)
        folder = _escaped(node.folder.rstrip("/"))
        text = f"{folder}/{node.value}"
        text = text if "${" in text else os.path.normpath(text)
        return replace(node, value=text, text=text, plain=False)

    def files(self, node: Node, path: str, matrices: Sequence[Mapping[str, Any]]) -> Node:
        """Return the value with the path of each ``${file:…}`` in it made absolute."""
        if node.is_map:
            return replace(node, value={k: self.files(one, f"{path}.{k}", matrices) for k, one in node.value.items()})
        if node.is_list:
            return replace(node, value=[self.files(one, f"{path}[{i}]", matrices) for i, one in enumerate(node.value)])
        if not isinstance(node.value, str) or "${" not in node.value or _FILE not in node.value:
            return node
        pieces = [self.file(piece, node, path, matrices) for piece in split_placeholders(node.value)]
        text = "".join(_escaped(p) if isinstance(p, str) else f"${{{p.text}}}" for p in pieces)
        return replace(node, value=text, text=text)

    def file(
        self, piece: str | Placeholder, node: Node, path: str, matrices: Sequence[Mapping[str, Any]]
    ) -> str | Placeholder:
        if isinstance(piece, str) or not piece.text.startswith(_FILE):
            return piece
        name = replace(node, value=piece.text.removeprefix(_FILE).strip())
        made = self.path(name, path, matrices or [{}])
        if made is not name and set("{}") & set(node.folder):
            message = f"the folder {node.folder!r} has braces in its name, which ${{file:…}} can't have"
            raise ConfigFault(node.location, path, message)
        return replace(piece, text=f"{_FILE}{made.value}")


def _escaped(text: str) -> str:
    return text.replace("${", "$${")
