"""Check the workers of a cluster before they are given work; ship this package where it is missing.

With other versions of Dask or Python pickles break late and strangely, and without a shared folder outputs are written
to another disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import pickle
import secrets
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cloudpickle
from distributed import Client
from distributed.diagnostics.plugin import SchedulerUploadFile, UploadFile

from pipeline.backends.dask.health import ask
from pipeline.errors import BackendError
from pipeline.worker.tracebacks import one_line

__all__ = ["fingerprint", "installed", "probe", "unregister", "versions"]

_PACKAGES = ("dask", "distributed", "numpy", "pandas", "pyarrow", "cloudpickle")
_EXACT = ("dask", "distributed")  # their messages and private parts change with every release
_by_value = threading.Lock()


class _Call:
    """A call that is made when it is unpickled: so a function of ours runs where this package is not installed."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _pickled_call(function: Any, *arguments: Any) -> bytes:
    """Return bytes that ``pickle.loads`` turns into ``function(*arguments)``; the function is pickled by value."""
    module = importlib.import_module(__name__)
    with _by_value:
        cloudpickle.register_pickle_by_value(module)
        try:
            return cloudpickle.dumps(_Call(function, *arguments))  # type: ignore[no-any-return]
        finally:
            cloudpickle.unregister_pickle_by_value(module)


def installed(packages: tuple[str, ...], marker: str) -> dict[str, Any]:
    """Return the versions that a process has installed, and what it reads in the file ``marker``."""
    # it is sent by value to processes that lack this package, so it must bring its imports
    import hashlib
    import importlib.metadata
    import sys
    import zipfile
    from pathlib import Path

    found: dict[str, Any] = {"python": "{}.{}".format(*sys.version_info)}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    try:
        folder = Path(str(importlib.import_module("pipeline").__file__)).parent
        if folder.is_dir():
            files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.py")}
        else:
            with zipfile.ZipFile(folder.parent) as archive:
                files = {n.partition("/")[2]: archive.read(n) for n in archive.namelist() if n.endswith(".py")}
        digest = hashlib.sha256()
        for file in sorted(files):
            digest.update(file.encode() + b"\0" + files[file])
        found["pipeline"] = digest.hexdigest()[:12]
    except ImportError:
        found["pipeline"] = None
    if marker:
        try:
            found["marker"] = Path(marker).read_text()
        except OSError:
            found["marker"] = None
    return found


def probe(client: Client, *, staging: str = "") -> list[str]:
    """Compare the versions of every worker with those here; ship ``pipeline`` to workers that lack it.

    Parameters
    ----------
    staging : the folder that outputs are written to, which every worker must see; not checked if it is empty or an
        address of an object store

    Returns
    -------
    list of str : the names of the plugins that were registered, for :func:`unregister`

    Raises
    ------
    BackendError : lists what is wrong with each worker
    """
    with _marker(staging) as (path, content):
        call = _pickled_call(installed, _PACKAGES, path)
        workers: dict[str, Any] = ask(client, "run", pickle.loads, call, on_error="return")
        here = installed(_PACKAGES, "")
        problems = [p for address, there in workers.items() for p in _problems(address, there, here, path, content)]
    if problems:
        raise BackendError("the workers can't run this:\n" + "\n".join(f"  {problem}" for problem in problems))
    scheduler = ask(client, "run_on_scheduler", pickle.loads, _pickled_call(installed, (), ""))
    if scheduler["pipeline"] is None or any(there["pipeline"] is None for there in workers.values()):
        return _ship(client, here["pipeline"])
    return []


def _problems(worker: str, there: Any, here: Mapping[str, Any], path: str, content: str) -> Iterator[str]:
    if isinstance(there, BaseException):
        yield f"{worker}: {one_line(there)}"
        return
    for name in ("python", *_PACKAGES):
        ours, got = here[name], there[name]
        if got is None or (ours != got if name in _EXACT else _minor(ours) != _minor(got)):
            yield f"{worker}: {name} {got or 'is missing'}; here it is {ours}"
    if there["pipeline"] not in (None, here["pipeline"]):
        yield f"{worker}: pipeline differs from the version here: install the same version, or restart the worker"
    if path and there["marker"] != content:
        yield f"{worker}: does not see {Path(path).parent}: outputs need a folder that every worker shares"


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


@contextlib.contextmanager
def _marker(staging: str) -> Iterator[tuple[str, str]]:
    """Write a file that only processes see that share the folder; yield its path and content."""
    folder = Path(staging)
    if not staging or "://" in staging or not folder.is_dir():
        yield "", ""
        return
    path, content = folder / f".probe-{secrets.token_hex(8)}", secrets.token_hex(16)
    path.write_text(content)
    try:
        yield str(path.resolve()), content
    finally:
        path.unlink(missing_ok=True)


def _ship(client: Client, digest: str) -> list[str]:
    """Make ``pipeline`` importable on the scheduler and on every present and future worker."""
    folder = Path(__file__).parents[2]
    name = f"pipeline-package-{digest}"
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, f"{name}.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    archive.write(file, Path("pipeline", file.relative_to(folder)))
        ask(client, "register_plugin", SchedulerUploadFile(str(path)), name=name)
        ask(client, "register_plugin", UploadFile(str(path)), name=name)
    return [name]


def unregister(client: Client, names: list[str]) -> None:
    """Remove plugins from a scheduler that other clients go on using; best effort, within seconds."""
    for name in names:
        with contextlib.suppress(BackendError, ValueError, KeyError, RuntimeError):
            ask(client, "unregister_worker_plugin", name, timeout=3)
    for name in (name for name in names if name.startswith("pipeline-package")):
        with contextlib.suppress(BackendError, ValueError, KeyError, RuntimeError):
            ask(client, "unregister_scheduler_plugin", name, timeout=3)


def versions() -> dict[str, str]:
    """Return the versions that the notes of a Trace record."""
    return {name: importlib.metadata.version(name) for name in _EXACT}


def fingerprint(modules: Mapping[str, bytes]) -> str:
    """Return a digest of a set of modules, their content and their places."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        place = getattr(modules[name], "place", "")
        digest.update(f"{name}\0{place}\0".encode() + modules[name] + b"\0")
    return digest.hexdigest()[:16]
