"""graph.importing."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from pipeline.errors import ConfigError

# ---------------------------------------------------------------------------------------------------------------------
# The user's code
# ---------------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def resolve(text: str) -> Callable[..., Any]:
    """The function that ``module:function`` names, imported.

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
            raise  # the module is there; something that it imports is not
        raise ConfigError(
            f"{text!r}: there is no module {error.name!r} here; install it, or name its file under 'modules'"
        ) from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise ConfigError(f"{text!r}: module {module_name!r} has no {path!r}")
        found = getattr(found, name)
    if not callable(found):
        raise ConfigError(f"{text!r} is no function, but {type(found).__name__}")
    function: Callable[..., Any] = found
    return function
