"""Get a process ready to run tasks: the user's modules, the threads of BLAS, the garbage collector."""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.graph.importing import resolve
from pipeline.worker.atomic_write import replacing
from pipeline.worker.temp_folders import hold

__all__ = ["freeze_objects", "install_modules", "limit_threads"]


_installed_modules: dict[str, int] = {}  # folder in sys.path, at most one -> descriptor of its lock
_install_lock = threading.Lock()


def install_modules(modules: Mapping[str, bytes]) -> None:
    """Make shipped modules importable in this process, before all others of the same name.

    Parameters
    ----------
    modules : file name below a modules folder -> source

    The files are written to a folder below the temp folder that is named by their content, and are kept there while a
    process needs them. Modules of an earlier call with other content are removed from ``sys.modules``, so that the new
    ones are imported. Calling it again with the same content does nothing.
    """
    if not modules:
        return
    with _install_lock:
        folder, held = _write_modules(modules)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        if folder in _installed_modules:
            os.close(held)
            return
        for old in list(_installed_modules):
            _forget(old)
            os.close(_installed_modules.pop(old))
        _installed_modules[folder] = held
        importlib.invalidate_caches()
        resolve.cache_clear()


def _write_modules(modules: Mapping[str, bytes]) -> tuple[str, int]:
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(f"{name}\0{len(modules[name])}\0".encode() + modules[name])
    folder, held = hold(f"code-{digest.hexdigest()[:32]}")
    try:
        for name, source in modules.items():
            _write(folder, name, source)
    except BaseException:
        os.close(held)
        raise
    return str(folder), held


def _write(folder: Path, name: str, source: bytes) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"modules: got {name!r}, which is outside the modules folder")
    if not path.is_file() or path.read_bytes() != source:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:  # other workers may be writing the same file
            partial.write_bytes(source)


def _forget(folder: str) -> None:
    if folder in sys.path:
        sys.path.remove(folder)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.startswith(folder + os.sep):
            del sys.modules[name]


# ---------------------------------------------------------------------------------------------------------------------
# The garbage collector
# ---------------------------------------------------------------------------------------------------------------------


def freeze_objects() -> None:
    """Exclude all objects that exist now, modules above all, from garbage collection.

    For a process of ours that has just been set up. Otherwise each full collection visits the hundred thousands of
    objects of dask and pandas again; tasks that make many objects (a parser) took a fifth longer.
    """
    gc.freeze()


# ---------------------------------------------------------------------------------------------------------------------
# Threads below Python
# ---------------------------------------------------------------------------------------------------------------------

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def limit_threads(n: int = 1) -> dict[str, int]:
    """Limit the threads of BLAS, OpenMP and Arrow in this process, permanently.

    Returns
    -------
    library (``openblas``, ``arrow``, …) -> the number of threads that it now reports, of the libraries loaded so far
    """
    import pyarrow as pa  # heavy, and not needed by a process that only installs modules
    import threadpoolctl

    for name in _THREAD_VARIABLES:  # for libraries that are loaded later
        os.environ[name] = str(n)
    threadpoolctl.threadpool_limits(n)
    pa.set_cpu_count(n)  # Arrow reads the environment once, when it is imported
    pa.set_io_thread_count(max(n, 2))  # a single thread can wait for itself in nested reads
    found: dict[str, int] = {}
    for library in threadpoolctl.threadpool_info():
        name = library["internal_api"]
        found[name] = max(found.get(name, 0), int(library["num_threads"]))
    return {**found, "arrow": pa.cpu_count()}
