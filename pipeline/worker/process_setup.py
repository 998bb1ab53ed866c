"""Get a process ready to run tasks: the user's modules, the threads of BLAS, the garbage collector."""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.graph.importing import resolve
from pipeline.worker.atomic_write import replacing
from pipeline.worker.temp_folders import hold

__all__ = ["folder_kept", "freeze_objects", "install_modules", "limit_threads", "limit_threads_of_later_libraries"]


_installed_modules: dict[str, tuple[int, frozenset[str]]] = {}  # folder in sys.path, at most one -> lock, module names
_install_lock = threading.Lock()


@contextmanager
def folder_kept() -> Iterator[None]:
    """Go back to the folder of this process after its tasks, which may have changed to another, or removed that."""
    try:
        before = os.open(".", os.O_RDONLY)
    except OSError:  # it is not readable, or is gone
        yield
        return
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)


_STATE = "loaded from its place by pipeline"
_AT_ITS_PLACE = '''\
"""Loads {name!r} from where it is, so that it finds what lies beside it; no compiled file is written there."""
# SHA-256 of its files: {digest}
import importlib.machinery
import importlib.util
import sys


class Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):
        return self.source_to_code(self.get_data(self.path), self.path)


class BelowPackage:
    """Finds the modules of the package as always, and has them loaded by Loader."""
    pipeline_package = {name!r}

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if not fullname.startswith(cls.pipeline_package + "."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = Loader(fullname, spec.loader.path)
        return spec


path, folders = {path!r}, {folders!r}
if folders:
    sys.meta_path.insert(0, BelowPackage)
loader = Loader(__name__, path)
spec = importlib.util.spec_from_file_location(
    __name__, path, loader=loader, submodule_search_locations=folders
)
spec.loader_state = {state!r}
spec._initializing = True  # so that an import in another thread waits until the module is whole
module = sys.modules[__name__] = importlib.util.module_from_spec(spec)
loader.exec_module(module)
spec._initializing = False
'''


def install_modules(modules: Mapping[str, bytes]) -> None:
    """Make the user's modules importable in this process, before all others of the same name.

    Parameters
    ----------
    modules : file name below a modules folder -> content, a :class:`~pipeline.graph.importing.Source` where it is known
        where the file is

    A module whose files are all there, with this content, is imported from its own place. The files of others are
    written to a folder below the temp folder that is named by their content, and are kept there while a process needs
    them. Modules of an earlier call with other content are removed from ``sys.modules``, so that the new ones are
    imported. Calling it again with the same content does nothing.
    """
    if not modules:
        return
    with _install_lock:
        files = _files(modules)
        folder, held = _write_modules(files)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        if folder in _installed_modules:
            os.close(held)
            return
        for old in list(_installed_modules):
            lock, names = _installed_modules.pop(old)
            _forget(old, names)
            os.close(lock)
        _installed_modules[folder] = held, frozenset(map(_top, files))
        importlib.invalidate_caches()
        resolve.cache_clear()


def _top(name: str) -> str:
    """Return the name of the module or package that a file belongs to."""
    return name.partition("/")[0].removesuffix(".py")


def _files(modules: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files to write: for each module its own, or one that loads it from its place."""
    of_module: dict[str, dict[str, bytes]] = {}
    for name, content in modules.items():
        of_module.setdefault(_top(name), {})[name] = content
    files: dict[str, bytes] = {}
    for name, own in of_module.items():
        first = f"{name}.py" if f"{name}.py" in own else f"{name}/__init__.py"
        if first in own and all(map(_is_in_place, own.values())):
            path = getattr(own[first], "place", "")
            folders = [os.path.dirname(path)] if first.endswith("/__init__.py") else None
            about = {"name": name, "state": _STATE, "path": path, "folders": folders, "digest": _digest(own)}
            files[f"{name}.py"] = _AT_ITS_PLACE.format(**about).encode()
        else:
            files |= own
    return files


def _is_in_place(content: bytes) -> bool:
    """Whether a file is where it was when the Graph was built, with this content."""
    place = getattr(content, "place", "")
    try:
        return bool(place) and Path(place).read_bytes() == content
    except OSError:
        return False


def _write_modules(modules: Mapping[str, bytes]) -> tuple[str, int]:
    folder, held = hold(f"code-{_digest(modules)[:32]}")
    try:
        for name, source in modules.items():
            _write(folder, name, source)
    except BaseException:
        os.close(held)
        raise
    return str(folder), held


def _digest(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256, in hex, of names and contents."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return digest.hexdigest()


def _write(folder: Path, name: str, source: bytes) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"modules: got {name!r}, which is outside the modules folder")
    if not path.is_file() or path.read_bytes() != source:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:  # other workers may be writing the same file
            partial.write_bytes(source)


def _forget(folder: str, names: Collection[str]) -> None:
    """Have the modules of a folder imported anew."""
    if folder in sys.path:
        sys.path.remove(folder)
    at_place = {
        name
        for name in names
        if getattr(getattr(sys.modules.get(name), "__spec__", None), "loader_state", "") == _STATE
    }
    sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "pipeline_package", None) not in names]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        below = isinstance(file, str) and file.startswith(folder + os.sep)
        if below or name.partition(".")[0] in at_place:
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


def limit_threads_of_later_libraries(n: int) -> None:
    """Limit the threads of BLAS and OpenMP libraries that this process loads from now on."""
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(n)


def limit_threads(n: int = 1) -> dict[str, int]:
    """Limit the threads of BLAS, OpenMP and Arrow in this process, permanently.

    Returns
    -------
    library (``openblas``, ``arrow``, …) -> the number of threads that it now reports, of the libraries loaded so far
    """
    import pyarrow as pa  # heavy, and not needed by a process that only installs modules
    import threadpoolctl

    limit_threads_of_later_libraries(n)
    threadpoolctl.threadpool_limits(n)
    pa.set_cpu_count(n)  # Arrow reads the environment once, when it is imported
    pa.set_io_thread_count(max(n, 2))  # a single thread can wait for itself in nested reads
    found: dict[str, int] = {}
    for library in threadpoolctl.threadpool_info():
        name = library["internal_api"]
        found[name] = max(found.get(name, 0), int(library["num_threads"]))
    return {**found, "arrow": pa.cpu_count()}
