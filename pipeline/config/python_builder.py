"""A pipeline built in Python: the keys of a file, gathered call by call, each with the line of its call.

They become the same tree that a file is parsed to, so that there is one language with one set of rules and messages.
Functions are named by their module, which is added to ``modules``.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from types import FrameType
from typing import Any

from pipeline.config.fault_collector import ConfigFault
from pipeline.config.from_python import StepReference, tree_of
from pipeline.config.loader import TOP_LEVEL, from_tree
from pipeline.config.model import Config
from pipeline.config.signatures import OPS
from pipeline.config.yaml_nodes import MOST_BYTES, MOST_VALUES, Node
from pipeline.config.yaml_writer import yaml_text
from pipeline.errors import ConfigError, Fault, Location

__all__ = ["PipelineBuilder", "called_at"]

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
    return Location(frame.f_code.co_filename, line or frame.f_lineno, (column or 0) + 1)


class PipelineBuilder:
    """The keys of a file, as far as they are given. The Config is made when it is first needed after a change."""

    def __init__(self, top: Mapping[str, Any], root: str | os.PathLike[str]) -> None:
        self._at, self._folder = called_at(), os.path.abspath(os.fspath(root))
        self._modules: dict[str, None] = {}
        self._top: dict[str, Node] = {}
        self._sections: dict[str, dict[str, Node]] = {"steps": {}, "outputs": {}, "checks": {}, "keep": {}}
        for key, value in {"version": 1, **top}.items():
            if value is not None:
                self._top[key] = self._tree(value, self._at, key, depth=1)
        include = self._top.get("include")
        if include is not None and include.is_list:
            include.value = [replace(one, value=self._path(one.value)) for one in include.value]

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
        at, entries = called_at(), self._sections[section]
        path = f"{section}.{name}" if section in ("steps", "outputs") else f"{section}[{name}]"
        if name in entries:
            message = f"{name!r} is here a second time; first at {entries[name].location}"
            raise ConfigError([Fault(at, path, message)])
        if section == "steps":
            keys = {key: _ranges(value) if key in _VALUES else value for key, value in keys.items()}
        entries[name] = self._tree(keys, at, path, depth=2)
        self.__dict__.pop("config", None)

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
        got = f"got {getattr(function, '__qualname__', repr(function))!r}"
        if module == "__main__":
            raise ConfigFault(at, path, f"{got}, which is defined in the script that runs; workers import functions "
                        "from a module: put it in a file of its own, and import it")  # fmt: skip
        found: Any = sys.modules.get(str(module))
        for part in name.split("."):
            found = getattr(found, part, None)
        if module is None or found is None or found != function:
            raise ConfigFault(at, path, f"{got}, which can't be imported by a name of its module; workers need a "
                        "function that is defined at the top of a module: no lambda, partial or "
                        "inner function")  # fmt: skip
        for one in _shippable(str(module)):
            self._modules.setdefault(one)
        return f"{module}:{name}"

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
                keys = {name: node.location for name, node in entries.items()}
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
        return from_tree(self.tree)


def _bare(keys: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys of a step that take references without ``${…}``."""
    op = keys.get("op")
    if not isinstance(op, str) or op not in OPS:
        return _BARE
    return frozenset(role for cls in OPS[op] for role in cls.inputs)


def _ranges(value: Any) -> Any:
    """Return ``range(…)`` as the map that means it where values are listed."""
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    return {key: _ranges(one) for key, one in value.items()} if isinstance(value, Mapping) else value


def _stem(module: str) -> str:
    """Return the name by which a module of ``modules`` is imported."""
    is_path = module.startswith((".", "/")) or module.endswith((".py", "/"))
    return os.path.basename(os.path.normpath(module)).removesuffix(".py") if is_path else module


def _shippable(module: str) -> list[str]:
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
