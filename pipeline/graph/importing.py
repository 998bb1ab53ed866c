"""The user's modules, and the functions of them that a pipeline file names."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
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
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
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
