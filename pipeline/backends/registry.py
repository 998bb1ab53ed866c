"""The back ends by name; the module of a back end is imported when it is created.

To add one, see :mod:`pipeline.backends.base`.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from pipeline.errors import BackendError, ConfigError, nearest

if TYPE_CHECKING:
    from pipeline.backends.base import Backend

__all__ = ["BACKENDS", "COMPARED", "base_name", "class_of", "create", "is_remote", "require_known"]

BACKENDS: dict[str, tuple[str, str, str]] = {
    "serial": ("pipeline.backends.local.serial:Serial", "", "in order, in this process: the reference"),
    "threads": ("pipeline.backends.local.threads:Threads", "", "threads of this process: no copies of data, one GIL"),
    "pool": ("pipeline.backends.local.pool:Pool", "", "plain multiprocessing.Pool, supervised"),
    "processes": (
        "pipeline.backends.local.processes:Processes",
        "",
        "persistent processes that survive a killed worker",
    ),
    "process-per-task": (
        "pipeline.backends.local.process_per_task:ProcessPerTask",
        "",
        "a new process for each segment, its result through a queue",
    ),
    "manager": (
        "pipeline.backends.manager.manager_backend:Manager",
        "",
        "a multiprocessing manager, joined by workers of this and other machines",
    ),
    "dask": ("pipeline.backends.dask.backend:Dask", "dask", "a LocalCluster, a scheduler address or a cluster class"),
}
"""name -> (module:class, the extra of ``pip install pipeline[…]`` that it needs, description)."""

COMPARED = ("serial", "threads", "pool", "processes", "dask")
"""Those that ``compare`` measures where none is named. The others are there to be compared with: they are slower by
their design, by far where segments are short."""


def base_name(text: str) -> str:
    """Return the name of a back end without its options.

    >>> base_name("pool[start_method=fork]")
    'pool'
    """
    return text.partition("[")[0].strip()


def is_remote(text: str) -> bool:
    """Return whether a back end runs on workers that are not started by it.

    >>> is_remote("dask[address=tcp://10.0.0.1:8786]"), is_remote("dask")
    (True, False)
    """
    return "[address=" in text


def require_known(name: str) -> None:
    """Check the name of a back end.

    Raises
    ------
    ConfigError : if there is no such back end
    """
    if name not in BACKENDS:
        raise ConfigError(f"back end: got {name!r}; allowed: {', '.join(BACKENDS)}{nearest(name, BACKENDS)}")


def create(name: str, **options: Any) -> Backend:
    """Return a back end, to be entered.

    Parameters
    ----------
    options : of the back end; all have ``workers`` and ``modules``. None leaves the default

    Raises
    ------
    ConfigError : if there is no such back end, or no such option
    BackendError : if a package that it needs is not installed
    """
    backend_class = class_of(name)
    given = {option: value for option, value in options.items() if value is not None}
    allowed = inspect.signature(backend_class).parameters
    for option in given:
        if option not in allowed:
            raise ConfigError(
                f"back end {name!r}: unknown option {option!r}; allowed: {', '.join(allowed)}{nearest(option, allowed)}"
            )
    backend: Backend = backend_class(**given)
    return backend


def class_of(name: str) -> Any:
    """Return the class of a back end.

    Raises
    ------
    ConfigError : if there is no such back end
    BackendError : if a package that it needs is not installed
    """
    require_known(name)
    target, extra, _ = BACKENDS[name]
    module_name, _, class_name = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("pipeline"):
            raise
        raise BackendError(f"back end {name!r} needs {error.name}: pip install 'pipeline[{extra}]'") from error
