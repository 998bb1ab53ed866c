"""What decides the result of a function that is given as an object: its code, and every value that it reads.

These are its source (in a notebook) or bytecode, defaults, closure, and the globals that it names; of functions and
classes of the running script or notebook among them the same, at any depth. Neither the place of the code nor comments
count. Modules are named, and their code is not looked at here.

The source counts where it is kept in memory, as that of cells is. Rejected for scripts: their file may have been edited
since the function was made.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import inspect
import linecache
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.source_digests import syntax_digest
from pipeline.worker.value_digest import digest

__all__ = ["FunctionCode", "bytecode", "function_code"]

_MOST_DEPTH = 50


@dataclass(frozen=True)
class FunctionCode:
    """The code of a function.

    Parameters
    ----------
    parts : name of a function, class, global, default or variable of a closure -> digest
    modules : names of the modules whose functions, classes or values it uses, or that it names
    unknown : why a part has no digest; empty: all have one
    bytecode : whether a part has no source, so that its digest is of bytecode, which differs between versions of Python
    """

    parts: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    unknown: str = ""
    bytecode: bool = False

    @property
    def digest(self) -> str | None:
        """Return one digest of all parts; None if one is unknown."""
        if self.unknown:
            return None
        pairs = "\0".join(f"{name}\0{part}" for name, part in sorted(self.parts.items()))
        return hashlib.sha256(pairs.encode()).hexdigest()[:32]


def function_code(function: Callable[..., Any]) -> FunctionCode:
    """Return what decides the result of a function."""
    walk = _Walk()
    try:
        walk.part(getattr(function, "__qualname__", type(function).__qualname__), function, 0)
    except _UnknownPart as error:
        return FunctionCode(walk.parts, tuple(sorted(walk.modules)), str(error), walk.bytecode)
    return FunctionCode(walk.parts, tuple(sorted(walk.modules)), bytecode=walk.bytecode)


class _UnknownPart(Exception):
    """A part of a function has no digest; the message names it and the reason."""


class _Walk:
    """Follows what a function reads. State: the parts that were found, each once."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self.modules: set[str] = set()
        self.bytecode = False
        self._seen: dict[int, str] = {}
        self._held: list[Any] = []  # so that no other object gets the id of one of them

    def part(self, name: str, value: Any, depth: int) -> None:
        """Add a value that a function reads under a name; another one of that name gets a number."""
        if isinstance(value, types.FunctionType | type) and id(value) in self._seen:
            return
        while name in self.parts:
            name += "'"
        self.parts[name] = ""
        self.parts[name] = self._described(name, value, depth)

    def _described(self, name: str, value: Any, depth: int) -> str:
        """Return a text that only this value has."""
        if depth > _MOST_DEPTH:
            raise _UnknownPart(f"{name} is nested deeper than {_MOST_DEPTH} levels")
        if id(value) in self._seen:
            return self._seen[id(value)]
        if isinstance(value, types.ModuleType):
            self.modules.add(value.__name__)
            return f"module {value.__name__}"
        if isinstance(value, types.FunctionType | type | types.BuiltinFunctionType):
            if _is_imported(value):
                self.modules.add(value.__module__)
                return f"{value.__module__}:{value.__qualname__}"
            self._held.append(value)
            self._seen[id(value)] = f"itself {value.__qualname__}"
            if isinstance(value, types.FunctionType):
                return self._function(name, value, depth)
            if isinstance(value, type):
                return self._class(value, depth)
        if isinstance(value, types.MethodType):
            inner = [self._described(name, one, depth + 1) for one in (value.__func__, value.__self__)]
            return f"method({inner[0]}, {inner[1]})"
        if isinstance(value, functools.partial):
            inner = [self._described(name, one, depth + 1) for one in (value.func, value.args, value.keywords)]
            return f"partial({', '.join(inner)})"
        if isinstance(value, staticmethod | classmethod):
            return f"{type(value).__name__}({self._described(name, value.__func__, depth + 1)})"
        if isinstance(value, property):
            inner = [self._described(name, one, depth + 1) for one in (value.fget, value.fset, value.fdel)]
            return f"property({', '.join(inner)})"
        return self._value(name, value, depth)

    def _function(self, name: str, function: types.FunctionType, depth: int) -> str:
        code = function.__code__
        for key, value in function.__globals__.items():
            if key in _globals_read(code):
                self.part(key, value, depth + 1)
        variables = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        closure = [self._variable(f"{name}: {key}", cell, depth) for key, cell in variables.items()]
        defaults = [self._described(f"{name}: a default", function.__defaults__, depth + 1),
                    self._described(f"{name}: a default", function.__kwdefaults__, depth + 1)]  # fmt: skip
        source = _source_digest(function)
        self.bytecode |= not source
        return hashlib.sha256("\0".join([source or bytecode(code), *closure, *defaults]).encode()).hexdigest()[:16]

    def _variable(self, name: str, cell: types.CellType, depth: int) -> str:
        try:
            return self._described(name, cell.cell_contents, depth + 1)
        except ValueError:  # not yet assigned
            return "empty"

    def _class(self, cls: type, depth: int) -> str:
        bases = [self._described(cls.__qualname__, base, depth + 1) for base in cls.__bases__]
        inner = []
        for key, value in sorted(vars(cls).items()):
            if key not in ("__dict__", "__weakref__", "__module__", "__firstlineno__", "__static_attributes__"):
                member = isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType)
                what = "slot" if member else self._described(f"{cls.__qualname__}.{key}", value, depth + 1)
                inner.append(f"{key} {what}")
        return hashlib.sha256("\0".join([*bases, *inner]).encode()).hexdigest()[:16]

    def _value(self, name: str, value: Any, depth: int) -> str:
        found = digest(value)
        if found is not None:
            return found[:16]
        if isinstance(value, list | tuple | set | frozenset | dict):
            return self._collection(name, value, depth)
        if hasattr(value, "__wrapped__"):  # of functools.cache: it is pickled by its name
            return f"{type(value).__name__}({self._described(name, value.__wrapped__, depth + 1)})"
        try:  # as it would be pickled: a function to call, its arguments, and the state that it gets
            reduced = value.__reduce_ex__(4)
        except Exception as error:  # noqa: BLE001 - of a class of the user's, or one that can't be pickled
            raise _UnknownPart(f"{name} is a {type(value).__name__}, which can't be described: {error}") from None
        if isinstance(reduced, str) and getattr(value, "__module__", "__main__") == "__main__":
            raise _UnknownPart(f"{name} is a {type(value).__name__}, which can't be described")
        if isinstance(reduced, str):
            return f"{getattr(value, '__module__', '')}:{reduced}"
        inner = [list(one) if isinstance(one, Iterator) else one for one in reduced]
        return f"made({', '.join(self._described(name, one, depth + 1) for one in inner)})"

    def _collection(self, name: str, value: Any, depth: int) -> str:
        pairs = value.items() if isinstance(value, dict) else value
        inner = [self._described(name, one, depth + 1) for one in pairs]
        if isinstance(value, set | frozenset):
            inner.sort()
        return f"{type(value).__name__}({', '.join(inner)})"


def _is_imported(value: Any) -> bool:
    """Return whether another process gets the same by importing it, not by value."""
    module = getattr(value, "__module__", None)
    if module is None or module == "__main__":
        return False
    found: Any = sys.modules.get(module)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


def _globals_read(code: types.CodeType) -> frozenset[str]:
    """Return the names of the globals that a function and those inside it use."""
    names = {one.argval for one in dis.get_instructions(code) if "_GLOBAL" in one.opname or one.opname == "LOAD_NAME"}
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return frozenset(names).union(*map(_globals_read, inner))


def _source_digest(function: types.FunctionType) -> str:
    """Return a digest of the source of a function, without comments, layout and place; empty if there is none."""
    code = function.__code__
    entry = linecache.cache.get(code.co_filename)
    if entry is None or len(entry) != 4 or entry[1] is not None:  # there is a file: not the source that was run
        return ""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ""
    is_function = len(tree.body) == 1 and isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef)
    return syntax_digest(tree) if is_function else ""


def bytecode(code: types.CodeType) -> str:
    """Return text that distinguishes a code from any other of the same version of Python, wherever it is written."""
    constants = [bytecode(one) if isinstance(one, types.CodeType) else _constant(one) for one in code.co_consts]
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
    table = getattr(code, "co_exceptiontable", b"")
    return repr((sys.version_info[:2], code.co_code, table, names, counts, constants))


def _constant(value: Any) -> str:
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(repr, value))})"
    return repr(value)
