"""Functions that a pipeline in Python is given as objects, as modules that workers import: pickled by value.

They are read when the Graph is built, with the values that their globals have then, and are unpickled in every process
that calls one, this one included: what a function changes outside of itself is not seen elsewhere, on any back end.
"""

from __future__ import annotations

import inspect
import io
import linecache
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cloudpickle

from pipeline.builder.function_code import function_code
from pipeline.config.model import Config, Step
from pipeline.config.python_builder import shippable
from pipeline.errors import Fault, Location, cell_name
from pipeline.graph.importing import BY_VALUE, FunctionValues
from pipeline.units import bytes_text

__all__ = ["MOST_BYTES", "function_values"]

MOST_BYTES = 100_000_000
"""Bytes that a function with all that it reads may be: every worker gets it."""

_PACKAGE = '''"""Functions that were given as objects."""
import linecache
import pathlib
import pickle

_functions, _sources = pickle.loads(pathlib.Path(__file__).with_name("values.pkl").read_bytes())
for _name, _source in _sources.items():
    linecache.cache.setdefault(_name, (len(_source), None, _source.splitlines(True), _name))
globals().update(_functions)
'''


def function_values(config: Config) -> tuple[dict[str, bytes], tuple[str, ...], list[Fault]]:
    """Return the functions that a Config was given, as far as its steps call them.

    Returns
    -------
    The files of the module that has them; the paths of the user's modules that they need, besides those that are
    shipped anyway; and an error for each that can't be sent
    """
    used = {name: place for name, place in _uses(config) if name in config.functions}
    problems = {name: _problem(name, config.functions[name]) for name in used}
    faults = [Fault(*used[name], problem) for name, problem in problems.items() if problem]
    if faults or not used:
        return {}, (), faults
    functions = {name.partition(":")[2]: config.functions[name] for name in used}
    data, modules = _pickled((functions, _sources(functions.values())))
    identities = {name: function_code(config.functions[name]).digest for name in used}
    files = {f"{BY_VALUE}/__init__.py": _PACKAGE.encode(), f"{BY_VALUE}/values.pkl": FunctionValues(data, identities)}
    there = set(map(_module_name, config.shipped))
    paths = dict.fromkeys(path for module in modules for path in shippable(module) if path.startswith("/"))
    return files, tuple(path for path in paths if _module_name(path) not in there), []


def _module_name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".py")


def _uses(config: Config) -> Iterator[tuple[str, tuple[Location, str]]]:
    """Yield the functions that steps call, each with the place of its key."""
    for step in config.steps.values():
        key, name = _named(step)
        yield name, (step.locations.get(key, step.location), f"steps.{step.step}.{key}")
    yield str((config.compare.get("reference") or {}).get("call", "")), (Location(), "compare.reference.call")


def _named(step: Step) -> tuple[str, str]:
    if step.kind == "call":
        return "call", step.function
    return "function", str(getattr(step.parameters, "function", ""))


def _problem(name: str, function: Callable[..., Any]) -> str:
    """Return why a function can't be sent to workers; empty if it can."""
    error = _failure(function)
    if error is None:
        size = len(_pickled(function)[0])
        if size <= MOST_BYTES:
            return ""
        sizes = {part: len(_pickled(value)[0]) for part, value in _read(function) if _failure(value) is None}
        largest = max(sizes, key=lambda part: sizes[part], default="")
        of_it = f", {bytes_text(sizes[largest])} of it {largest}" if largest else ""
        return (f"{name} with all that it reads is {bytes_text(size)}{of_it}; every worker gets it, so at most "
                f"{bytes_text(MOST_BYTES)}: make a step of that, and pass it as input")  # fmt: skip
    guilty = next((part for part, value in _read(function) if _failure(value) is not None), "")
    of_it = f", because of {guilty}" if guilty else ""
    return f"{name} can't be sent to workers{of_it}: {error}. Make that inside of the function"


def _failure(value: Any) -> Exception | None:
    """Return the exception that pickling a value raises; None if it can be pickled."""
    try:
        _pickled(value)
    except Exception as error:  # noqa: BLE001 - the methods of a user's class raise anything
        return error
    return None


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Records the names of the modules that the unpickled value will import."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.modules: dict[str, None] = {}

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, types.ModuleType):
            self.modules[value.__name__] = None
        elif isinstance(value, types.FunctionType | type) and value.__module__:
            self.modules[value.__module__] = None
        elif isinstance(value, types.CodeType):
            value = value.replace(co_filename=cell_name(value.co_filename))  # as tracebacks in a worker name it
            return cloudpickle.Pickler.dispatch_table[types.CodeType](value)
        return super().reducer_override(value)


def _pickled(value: Any) -> tuple[bytes, list[str]]:
    """Return a value as a pickle, and the names of the modules that it needs."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    return file.getvalue(), [name for name in pickler.modules if name != "__main__" and name in sys.modules]


def _read(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function reads, each with a name for messages."""
    function = getattr(function, "func", getattr(function, "__func__", function))
    if isinstance(function, types.FunctionType):
        read = inspect.getclosurevars(function)
        yield from ((f"the global {key!r}", value) for key, value in read.globals.items())
        yield from ((f"the variable {key!r}", value) for key, value in read.nonlocals.items())


def _sources(functions: Iterable[Any]) -> dict[str, str]:
    """Return the sources that have no file, for tracebacks: of the cells that the functions are from."""
    files = {getattr(getattr(one, "__code__", None), "co_filename", "") for one in functions}
    entries = {cell_name(file): linecache.cache.get(file) for file in files}
    return {name: "".join(one[2]) for name, one in entries.items() if one and len(one) == 4 and one[1] is None}
