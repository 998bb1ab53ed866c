"""The user's modules, the functions of them that a pipeline file names, and libraries that may not be loaded."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.errors import ConfigError


class Source(bytes):
    """The content of a file of the user's modules; ``place`` is its absolute path where the Graph was built."""

    place: str

    def __new__(cls, content: bytes, place: str = "") -> Source:
        self = super().__new__(cls, content)
        self.place = place
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Source, (bytes(self), self.place)


BY_VALUE = "pipeline_functions_by_value"
"""The module with the functions that a pipeline in Python was given as objects: those that are named ``__main__:…``."""


class FunctionValues(bytes):
    """Pickled functions. The same functions may be other bytes in another session; their identities are the same.

    Parameters
    ----------
    identities : name -> digest of its code and of all that it reads; None where that is unknown
    """

    identities: Mapping[str, str | None]

    def __new__(cls, content: bytes, identities: Mapping[str, str | None]) -> FunctionValues:
        self = super().__new__(cls, content)
        self.identities = identities
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return FunctionValues, (bytes(self), self.identities)

    @property
    def identity(self) -> bytes:
        """Return bytes that are equal for equal functions: the content itself where an identity is unknown."""
        if None in self.identities.values():
            return bytes(self)
        return repr(sorted(self.identities.items())).encode()


def is_instance(value: Any, module: str, *names: str) -> bool:
    """Return whether a value is of one of a module's classes, without importing it: so it is not if nothing else has.

    >>> is_instance(1, "a_module_that_is_not_loaded", "Number")
    False
    """
    loaded = sys.modules.get(module)
    return any(isinstance(value, getattr(loaded, name, ())) for name in names)


class Deferred:
    """A library that is imported when something of it is first used: ``xr = Deferred("xarray")``.

    For the few modules that all pipelines load and only some need for it; pandas, xarray and dask.array take longer to
    import than a run of frames alone. ``isinstance(x, xr.DataArray)`` would import it: see :func:`is_instance`.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):  # asked by pickle, inspect and the like
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)


@functools.lru_cache(maxsize=1024)
def resolve(text: str) -> Callable[..., Any]:
    """Import and return the function that ``module:function`` names; remembers the last 1024.

    Raises
    ------
    ConfigError : if there is no such module, or no such function in it
    """
    module_name, _, path = text.partition(":")
    if not module_name or not path:
        raise ConfigError(f"got {text!r}; a function is written module:function")
    try:
        found: Any = importlib.import_module(BY_VALUE if module_name == "__main__" else module_name)
    except ModuleNotFoundError as error:
        if error.name == BY_VALUE:
            raise ConfigError(
                f"{text!r}: a function of a script or notebook is given as an object, in Python"
            ) from None
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists; a module that it imports does not
        raise ConfigError(
            f"{text!r}: module {error.name!r} was not found; install it, or name its file under 'modules'"
        ) from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise ConfigError(f"{text!r}: module {module_name!r} has no {path!r}")
        found = getattr(found, name)
    if not callable(found):
        raise ConfigError(f"{text!r} is not a function, but {type(found).__name__}")
    function: Callable[..., Any] = found
    return function
