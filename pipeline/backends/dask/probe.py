"""Check the workers of a cluster before they are given work; ship this package where it is missing."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import pickle
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
from pipeline.backends.versions import PACKAGES, differences, installed, marker, version
from pipeline.errors import BackendError
from pipeline.worker.tracebacks import one_line

__all__ = ["fingerprint", "probe", "unregister", "versions"]

_PACKAGES = ("distributed", *PACKAGES)
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
    module = importlib.import_module(function.__module__)
    with _by_value:
        cloudpickle.register_pickle_by_value(module)
        try:
            return cloudpickle.dumps(_Call(function, *arguments))  # type: ignore[no-any-return]
        finally:
            cloudpickle.unregister_pickle_by_value(module)


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
    with marker(staging) as (path, content):
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
    for difference in differences(there, here, _EXACT):
        yield f"{worker}: {difference}"
    if path and there["marker"] != content:
        yield f"{worker}: does not see {Path(path).parent}: outputs need a folder that every worker shares"


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
    return {name: str(version(name)) for name in _EXACT}


def fingerprint(modules: Mapping[str, bytes]) -> str:
    """Return a digest of a set of modules, their content and their places."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        place = getattr(modules[name], "place", "")
        digest.update(f"{name}\0{place}\0".encode() + modules[name] + b"\0")
    return digest.hexdigest()[:16]
