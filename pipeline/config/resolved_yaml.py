"""A Config as one file, with its includes merged and its params replaced by their values.

The text is for ``pipeline check --resolved`` and for reports. It can be loaded again and asks for the same, except for
secrets and storage options: a ``${…}`` that differs by instance, or is unknown until run time, is kept.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any

from pipeline.config.absolute_paths import with_absolute_paths
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.from_python import tree_of
from pipeline.config.interpolation import Params, Placeholder, Scope, placeholder_value, split_placeholders
from pipeline.config.model import Config
from pipeline.config.scalars import label
from pipeline.config.signatures import OPS
from pipeline.config.yaml_nodes import Node
from pipeline.config.yaml_writer import yaml_text
from pipeline.errors import ConfigError, Location, printable

__all__ = ["resolved_text"]

_MOST = 60  # values of a list or map that replaces ${…}; a longer one is left among the params
_LITERAL = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]+`|\$\{([^{}]*)\}""", re.DOTALL)


def resolved_text(config: Config) -> str:
    """Return the file as it is run, as YAML, with a comment beside each value that names its origin.

    ``base.yaml:4`` is where a value is written; ``climate.yaml:11; root: --set`` where it is written with a
    ``${root}``, and what set that. Input paths are absolute. Secrets and storage options are shown without values.
    """
    return _Resolver(config).text()


class _Resolver:
    def __init__(self, config: Config) -> None:
        self.config = config
        try:
            self.tree = with_absolute_paths(config)
        except ConfigError:  # a path that can't be made absolute
            self.tree = config.tree
        self.params = Params(self.tree.value["params"].value if "params" in self.tree.value else {})
        self.files = self._files()
        self.origins: dict[int, str] = {}  # by the id of the nodes of the new tree
        self.made: list[Node] = []  # keeps those nodes alive, so that no id is used again

    def text(self) -> str:
        values = {}
        for key, node in self.tree.value.items():
            convert = self._steps if key == "steps" else self._hidden if key == "storage" else self._interpolated
            values[key] = convert(node)
        if "name" not in self.config.tree.value and "name" in values:
            self.origins[id(values["name"])] = "default: the name of the file"
        if "checks" in values and values["checks"].is_list:
            checks = zip(values["checks"].value, self.tree.value["checks"].value, strict=True)
            for made, node in checks:
                made.value["that"] = self._expression(node.value["that"], frozenset())
        heads = [f"# {short} is {file}\n" for file, short in self.files.items() if file != short]
        text = "".join(heads) + yaml_text(replace(self.tree, value=values), origin=self._origin)
        return str(self.config.masked(text))

    # Origins

    def _files(self) -> dict[str, str]:
        """Return each file that has values, and the short name that comments have for it."""
        found: dict[str, str] = {}
        stack = [self.tree, *self.params.nodes.values()]
        while stack:
            node = stack.pop()
            if node.location.line:
                found.setdefault(node.location.file, os.path.basename(node.location.file))
            stack.extend(node.value.values() if node.is_map else node.value if node.is_list else ())
        names = list(found.values())
        return {file: short if names.count(short) == 1 else file for file, short in sorted(found.items())}

    def _where(self, place: Location) -> str:
        if place.line:
            return printable(f"{self.files.get(place.file, place.file)}:{place.line}")
        return "--set" if place.file.startswith("--set") else printable(place.file)

    def _origin(self, node: Node) -> str:
        return self.origins.get(id(node)) or self._where(node.location)

    def _node(self, node: Node, value: Any, origins: tuple[str, ...] = (), at: Location | None = None) -> Node:
        """Return a node of the new tree for a node of the old one."""
        is_scalar = not isinstance(value, dict | list)
        text = (value if isinstance(value, str) else node.text) if is_scalar else ""
        made = replace(node, value=self.config.masked(value) if isinstance(value, str) else value, text=text)
        self.made.append(made)
        if is_scalar and (origins or at):
            self.origins[id(made)] = "; ".join([self._where(at or node.location), *dict.fromkeys(origins)])
        return made

    # Values

    def _steps(self, node: Node) -> Node:
        return self._node(node, {name: self._step(step) for name, step in node.value.items()})

    def _step(self, step: Node) -> Node:
        over = step.value.get("over")
        own = frozenset(over.value) if over is not None and over.is_map else frozenset()
        texts, maps = {"expr", "when"}, set()
        op = step.value.get("op")
        if op is not None:
            texts |= {name for cls in OPS[op.text] for name in cls.expression_fields()}
            maps |= {name for cls in OPS[op.text] for name in cls.maps_of_expressions()}
        made = {}
        for key, node in step.value.items():
            if key not in texts or (key in maps and not node.is_map):
                made[key] = self._interpolated(node, frozenset() if key == "over" else own)
            elif node.is_map:
                inner = {name: self._expression(one, own) for name, one in node.value.items()}
                made[key] = self._node(node, inner)
            else:
                made[key] = self._expression(node, own)
        return self._node(step, made)

    def _hidden(self, node: Node) -> Node:
        """Return storage options with their values hidden, since they may be passwords."""
        if node.is_map:
            return self._node(node, {key: self._hidden(one) for key, one in node.value.items()})
        is_secret = isinstance(node.value, str) and "${secret:" in node.value
        return node if is_secret else self._node(node, "***")

    def _interpolated(self, node: Node, own: frozenset[str] = frozenset()) -> Node:
        """Return the value with each ``${…}`` replaced that is known before the run, except the names in ``own``."""
        if node.is_map:
            return self._node(node, {key: self._interpolated(one, own) for key, one in node.value.items()})
        if node.is_list:
            return self._node(node, [self._interpolated(one, own) for one in node.value])
        if not isinstance(node.value, str) or "${" not in node.value:
            return self._node(node, node.value)
        pieces = split_placeholders(node.value)
        origins: list[str] = []
        if len(pieces) == 1 and isinstance(pieces[0], Placeholder):
            found = self._value(pieces[0], node, own, origins)
            return self._node(node, node.value) if found is None else self._moved(found, tuple(origins), node.location)
        text = ""
        for piece in pieces:
            found = self._value(piece, node, own, origins) if isinstance(piece, Placeholder) else None
            if found is not None and not found.is_map and not found.is_list:
                text += found.value if isinstance(found.value, str) else label(found.value)
            else:
                text += f"${{{piece.text}}}" if isinstance(piece, Placeholder) else piece.replace("${", "$${")
        if text.startswith("/") and origins and "}/.." not in text:
            text = os.path.normpath(text) + ("/" if text.endswith("/") else "")
        return self._node(node, text, tuple(origins), node.location)

    def _moved(self, found: Node, origins: tuple[str, ...], at: Location) -> Node:
        """Return the value of a param as the value of the place where it is used."""
        if found.is_map:
            return self._node(found, {key: self._moved(one, origins, at) for key, one in found.value.items()})
        if found.is_list:
            return self._node(found, [self._moved(one, origins, at) for one in found.value])
        return self._node(found, found.value, origins, at)

    def _value(self, placeholder: Placeholder, node: Node, own: frozenset[str], origins: list[str]) -> Node | None:
        """Return the value of a placeholder and note its origin; None if it is unknown, secret or long."""
        source, colon, name = placeholder.text.partition(":")
        if colon and source in ("env", "python", "file"):
            found = self._outside(placeholder, node)
            if found is not None:
                name = name.partition(":-")[0].strip()
                origins.append(f"{source} {os.path.basename(name) if source == 'file' else name}")
            return found
        if placeholder.head in own or placeholder.head not in self.params:
            return None
        names = placeholder.text.split(".")
        found = Node(node.location, dict(self.params.nodes)).at(*names)
        place = found.location
        if _is_long(found):
            return None
        if isinstance(found.value, str) and "${" in found.value and len(names) > 1:
            made = self._outside(placeholder, node)  # a part of what a ${…} of the param is
        else:
            made = self._interpolated(found)
        if made is None:
            return None
        same = place.line and place.file == node.location.file
        indirect = self.origins.get(id(made), "").partition("; ")[2]
        where = f"line {place.line}" if same else self._where(place)
        origins.append(f"{placeholder.text}: {where}" + (f"; {indirect}" if indirect else ""))
        return made

    def _outside(self, placeholder: Placeholder, node: Node) -> Node | None:
        """Return the present value of a placeholder, unless it is long, or contains a secret."""
        try:
            value = placeholder_value(placeholder, node, "", Scope(self.params), run=False)
            found = tree_of(value, node.location, node.folder, convert=_same)
        except ConfigFault:
            return None
        return None if _is_long(found) or self.config.masked(value) != value else _escaped(found)

    def _expression(self, node: Node, own: frozenset[str]) -> Node:
        """Return an expression with the values that are known before the run as constants."""
        if not isinstance(node.value, str) or "${" not in node.value:
            return self._node(node, node.value)
        origins: list[str] = []

        def constant(match: re.Match[str]) -> str:
            around = node.value[match.start() - 1 : match.start()] + node.value[match.end() : match.end() + 1]
            if match[1] is None or re.search(r"\w", around):
                return match[0]
            new: list[str] = []
            found = self._value(Placeholder(match[1].strip(), 0), node, own, new)
            text = _constant(found) if found is not None else ""
            origins.extend(new if text else ())
            return text or match[0]

        return self._node(node, _LITERAL.sub(constant, node.value), tuple(origins), node.location)


def _same(value: Any, path: str) -> Any:
    return value


def _is_long(node: Node) -> bool:
    """Return whether there are more values in a node than replace a placeholder."""
    n, stack = 0, [node]
    while stack and n <= _MOST:
        node = stack.pop()
        n += 1
        stack.extend(node.value.values() if node.is_map else node.value if node.is_list else ())
    return n > _MOST


def _escaped(node: Node) -> Node:
    """Return the values with every ``${`` escaped."""
    if node.is_map or node.is_list:
        pairs = node.value.items() if node.is_map else enumerate(node.value)
        inner = {key: _escaped(one) for key, one in pairs}
        return replace(node, value=inner if node.is_map else list(inner.values()))
    return replace(node, value=node.value.replace("${", "$${")) if isinstance(node.value, str) else node


def _constant(node: Node) -> str:
    """Return a value as it is written in an expression; empty if it can't be."""
    value = node.value
    if node.is_list:
        texts = [_constant(one) for one in value]
        return f"[{', '.join(texts)}]" if texts and all(texts) and not any(one.is_list for one in value) else ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return "" if value - value != 0 else f"({value!r})" if value < 0 else repr(value)
    if isinstance(value, str) and "${" not in value and value.isprintable():
        text = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{text}'"
    return ""
