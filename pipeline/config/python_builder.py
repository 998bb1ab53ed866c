"""A pipeline built in Python: the keys of a file, gathered call by call, each with the line of its call.

They become the same tree that a file is parsed to, so that there is one language with one set of rules and messages.
Functions are named by their module, which is added to ``modules``; those that no module has are kept as objects.
"""

from __future__ import annotations

import itertools
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from functools import cached_property
from types import FrameType
from typing import Any

from pipeline.config.fault_collector import ConfigFault
from pipeline.config.from_python import StepReference, tree_of
from pipeline.config.loader import TOP_LEVEL, from_tree
from pipeline.config.model import Config
from pipeline.config.notebook_cells import running_cell
from pipeline.config.signatures import OPS
from pipeline.config.yaml_nodes import MOST_BYTES, MOST_VALUES, Node
from pipeline.config.yaml_writer import yaml_text
from pipeline.errors import ConfigError, Fault, Location, cell_name

__all__ = ["PipelineBuilder", "called_at", "shippable"]

_BARE = frozenset({"input", "over", "stdin"})  # keys of a call or a command that take bare references
_VALUES = ("matrix", "over")


def called_at() -> Location:
    """Return the place of the current call into this package: file, line and column of the caller."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == __name__.split(".")[0]:
        frame = frame.f_back
    if frame is None:
        return Location()
    line, _, column, _ = list(frame.f_code.co_positions())[frame.f_lasti // 2]
    return Location(cell_name(frame.f_code.co_filename), line or frame.f_lineno, (column or 0) + 1)


class PipelineBuilder:
    """The keys of a file, as far as they are given. The Config is made when it is first needed after a change."""

    def __init__(self, top: Mapping[str, Any], root: str | os.PathLike[str]) -> None:
        self._at, self._folder = called_at(), os.path.abspath(os.fspath(root))
        self._modules: dict[str, None] = {}
        self._functions: dict[str, tuple[Callable[..., Any], frozenset[str]]] = {}  # with the entries that call it
        self._top: dict[str, Node] = {}
        self._sections: dict[str, dict[str, Node]] = {"steps": {}, "outputs": {}, "checks": {}, "keep": {}}
        self._places: dict[tuple[str, str], Location] = {}
        self._cells: dict[tuple[str, str], int] = {}
        for key, value in {"version": 1, **top}.items():
            if value is not None:
                self._top[key] = self._tree(value, self._at, key, depth=1)
        include = self._top.get("include")
        if include is not None and include.is_list:
            include.value = [replace(one, value=self._path(one.value)) for one in include.value]

    @classmethod
    def of(cls, config: Config) -> PipelineBuilder:
        """Return the keys of a Config, to be added to; each value keeps its place in its file."""
        made = cls({"name": config.name}, config.root)
        made._functions = {name: (one, frozenset({"file"})) for name, one in config.functions.items()}
        for key, node in config.tree.value.items():
            if key not in made._sections:
                made._top[key] = node
            elif node.is_map or node.is_list:
                named = node.items() if node.is_map else ((str(i), one) for i, one in enumerate(node.value))
                made._sections[key] = dict(named)
                made._places |= {(key, name): place for name, place in node.keys.items()}
        return made

    def copy(self) -> PipelineBuilder:
        """Return a builder with the same keys; adding to one leaves the other as it is."""
        made = copy(self)
        made.__dict__.pop("config", None)
        made._modules, made._top, made._functions = dict(self._modules), dict(self._top), dict(self._functions)
        made._places, made._cells = dict(self._places), dict(self._cells)
        made._sections = {name: dict(entries) for name, entries in self._sections.items()}
        return made

    def _path(self, value: Any) -> Any:
        return os.path.join(self._folder, value) if isinstance(value, str) else value

    @property
    def name(self) -> str:
        return str(self._top["name"].value)

    def names(self, section: str) -> tuple[str, ...]:
        """Return the names of the entries of a section; entries of ``checks`` and ``keep`` are numbered."""
        return tuple(self._sections[section])

    def add(self, section: str, name: str, keys: Any) -> None:
        """Add an entry to ``steps``, ``outputs``, ``checks`` or ``keep``.

        Raises
        ------
        ConfigError : if there is an entry of this name, or a file can't contain a value
        """
        at, entries, cell = called_at(), self._sections[section], running_cell()
        path = f"{section}.{name}" if section in ("steps", "outputs") else f"{section}[{name}]"
        if name in entries and not self._is_earlier(section, name, cell):
            message = f"{name!r} is here a second time; first at {self._place(section, name)}"
            raise ConfigError([Fault(at, path, message)])
        if section == "steps":
            keys = {key: _ranges(value) if key in _VALUES else value for key, value in keys.items()}
        node = self._node(keys, at, path)
        if section == "checks":
            earlier = [n for n in entries if self._is_earlier(section, n, cell) and _same(entries[n], node)]
            name = earlier[0] if earlier else name
        entries[name], self._places[section, name], self._cells[section, name] = node, at, cell
        self.__dict__.pop("config", None)

    def _node(self, keys: Any, at: Location, path: str) -> Node:
        """Return an entry as a tree; the functions of the entry that it replaces are let go."""
        before = self._functions
        others = {name: (one, users - {path}) for name, (one, users) in before.items()}
        self._functions = {name: (one, users) for name, (one, users) in others.items() if users}
        try:
            return self._tree(keys, at, path, depth=2)
        except ConfigError:
            self._functions = before
            raise

    def _is_earlier(self, section: str, name: str, cell: int) -> bool:
        """Return whether an entry was added by an earlier cell of a notebook, or an earlier run of this one."""
        return 0 < self._cells.get((section, name), 0) < cell

    def _place(self, section: str, name: str) -> Location:
        return self._places.get((section, name), self._sections[section][name].location)

    def _tree(self, value: Any, at: Location, path: str, *, depth: int) -> Node:
        keys = value if isinstance(value, Mapping) else {}
        bare = _bare(keys) if path.startswith("steps.") else frozenset()

        def convert(one: Any, inside: str) -> Any:
            if isinstance(one, StepReference):
                key = inside.removeprefix(f"{path}.").split(".")[0].split("[")[0]
                is_bare = key in bare or inside in (f"{path}.input", f"{path}.that") or path.startswith("keep")
                return str(one) if is_bare else f"${{{one}}}"
            is_function = callable(one) and inside in (f"{path}.call", f"{path}.function", "compare.reference.call")
            return self._function(one, at, inside) if is_function else one

        try:
            return tree_of(value, at, self._folder, convert=convert, path=path, depth=depth)
        except ConfigFault as error:
            raise ConfigError([error.fault]) from None

    def _function(self, function: Callable[..., Any], at: Location, path: str) -> str:
        module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
        found: Any = sys.modules.get(str(module))
        for part in name.split("."):
            found = getattr(found, part, None)
        if module in (None, "__main__") or found is None or found != function:
            return self._by_value(function, path)
        for one in shippable(str(module)):
            self._modules.setdefault(one)
        return f"{module}:{name}"

    def _by_value(self, function: Callable[..., Any], path: str) -> str:
        """Return a name for a function that no module has: its own one, with a number if another one has that."""
        inner = getattr(function, "func", function)  # of a partial
        own = str(getattr(inner, "__name__", type(inner).__name__))
        stem = f"__main__:{own}" if own.isidentifier() else "__main__:lambda"
        names = itertools.chain([stem], (f"{stem}_{i}" for i in itertools.count(2)))
        name = next(one for one in names if self._functions.get(one, (function,))[0] == function)
        _, users = self._functions.get(name, (function, frozenset()))
        self._functions[name] = function, users | {path.rpartition(".")[0]}
        return name

    @property
    def tree(self) -> Node:
        """Return the tree of the file.

        Raises
        ------
        ConfigError : if it is larger than a file may be
        """
        values = {**self._top, **self._with_modules()}
        for key in ("steps", "outputs"):
            entries = self._sections[key]
            if entries or key == "steps":
                keys = {name: self._place(key, name) for name in entries}
                values[key] = Node(self._at, dict(entries), keys=keys, folder=self._folder)
        for key in ("checks", "keep"):
            if self._sections[key]:
                values[key] = Node(self._at, list(self._sections[key].values()), folder=self._folder)
        values = {key: values[key] for key in TOP_LEVEL if key in values} | values
        tree = Node(self._at, values, keys=dict.fromkeys(values, self._at), folder=self._folder)
        tree.text = yaml_text(tree)
        n_values = sum(node.size for entries in self._sections.values() for node in entries.values())
        if len(tree.text.encode("utf-8", "surrogatepass")) > MOST_BYTES or n_values > MOST_VALUES:
            most = f"{MOST_BYTES // 1024} KiB, or {MOST_VALUES:,} values"
            raise ConfigError(
                [Fault(self._at, "", f"is larger than a file may be, {most}; large data come from a step")]
            )
        return tree

    def _with_modules(self) -> dict[str, Node]:
        """Return the modules that were given and those of functions, each once."""
        given = self._top.get("modules")
        if not self._modules or (given is not None and not given.is_list):
            return {}
        nodes = list(given.value) if given is not None else []
        there = {_stem(node.text) for node in nodes}
        for one in self._modules:
            if _stem(one) not in there and one.split(".")[0] not in there:
                nodes.append(Node(self._at, one, one, folder=self._folder))
        return {"modules": Node(self._at, nodes, folder=self._folder)}

    @cached_property
    def config(self) -> Config:
        """Return the Config of all that was given.

        Raises
        ------
        ConfigError : with every error, each at the place of its call
        """
        tree = self.tree
        return from_tree(tree, {name: one for name, (one, _) in self._functions.items()})


def _bare(keys: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys of a step that take references without ``${…}``."""
    op = keys.get("op")
    if not isinstance(op, str) or op not in OPS:
        return _BARE
    return frozenset(role for cls in OPS[op] for role in cls.inputs)


def _same(one: Node, other: Node) -> bool:
    """Return whether two checks are of the same value or expression."""
    return one.is_map and other.is_map and one.value["that"].value == other.value["that"].value


def _ranges(value: Any) -> Any:
    """Return ``range(…)`` as the map that means it where values are listed."""
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    return {key: _ranges(one) for key, one in value.items()} if isinstance(value, Mapping) else value


def _stem(module: str) -> str:
    """Return the name by which a module of ``modules`` is imported."""
    is_path = module.startswith((".", "/")) or module.endswith((".py", "/"))
    return os.path.basename(os.path.normpath(module)).removesuffix(".py") if is_path else module


def shippable(module: str) -> list[str]:
    """Return the entries of ``modules`` for a module: its name if it is installed, else its file or folder."""
    top = module.split(".")[0]
    found = sys.modules.get(top)
    file = getattr(found, "__file__", None)
    place = (
        os.path.dirname(file)
        if file and hasattr(found, "__path__")
        else file or next(iter(getattr(found, "__path__", [])), None)
    )
    if place is None:  # built into Python
        return [top]
    place = os.path.abspath(place)
    paths = [*(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))]
    installed = [os.path.join(path, "") for path in (*paths, *site.getsitepackages())]
    is_shippable = os.path.basename(place).removesuffix(".py") == top and not place.startswith(tuple(installed))
    return [place] if is_shippable and (os.path.isdir(place) or place.endswith(".py")) else [top]
