"""What must be true of workers before they are given work, and whether their scheduler still answers.

Workers that somebody else started are asked for their versions and for a file in the staging folder first: with other
versions pickles break late and strangely, and without the folder outputs land on another disk. The package
``pipeline`` itself is shipped where it is missing.
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import cloudpickle
from distributed import Client
from distributed.diagnostics.plugin import SchedulerUploadFile, UploadFile

from pipeline.backends.dask.cluster import named
from pipeline.errors import BackendError

__all__ = ["Health", "ask", "describe", "fingerprint", "identity", "in_loop", "probe", "unregister", "versions"]

_PACKAGES = ("dask", "distributed", "numpy", "pandas", "pyarrow", "cloudpickle")
_EXACT = ("dask", "distributed")  # their messages and private parts change with every release
_by_value = threading.Lock()


def ask(client: Client, method: str, *arguments: Any, timeout: float = 30.0, **keywords: Any) -> Any:
    """Call a method of the client with a deadline that holds also when the scheduler is stopped.

    Raises
    ------
    BackendError : if no answer came in time, or the connection broke
    """

    async def call() -> Any:
        return await getattr(client, method)(*arguments, **keywords)

    try:
        return client.sync(call, callback_timeout=timeout)
    except (OSError, TimeoutError) as error:
        raise BackendError(f"the Dask scheduler does not answer ({method}): {named(error)}") from error


class _Call:
    """A call that happens where it is unpickled: so a function of ours runs where ``pipeline`` is not installed."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _carried(function: Any, *arguments: Any) -> bytes:
    """Bytes that ``pickle.loads`` turns into ``function(*arguments)``; the function goes by value."""
    module = importlib.import_module(__name__)
    with _by_value:
        cloudpickle.register_pickle_by_value(module)
        try:
            return cloudpickle.dumps(_Call(function, *arguments))  # type: ignore[no-any-return]
        finally:
            cloudpickle.unregister_pickle_by_value(module)


def describe(packages: tuple[str, ...], marker: str) -> dict[str, Any]:
    """What a process has installed, and what it reads in a file. Stands for itself: it is sent by value."""
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
    """Hold every worker against what we have here; ship ``pipeline`` to those that lack it.

    Parameters
    ----------
    staging : the folder that outputs are written to; empty, or an address of an object store, is not looked for

    Returns
    -------
    list of str : the names of the plugins that were registered, to be taken off again

    Raises
    ------
    BackendError : listing per worker what is wrong
    """
    with _marker(staging) as (path, content):
        found: dict[str, Any] = ask(client, "run", pickle.loads, _carried(describe, _PACKAGES, path), on_error="return")
        here = describe(_PACKAGES, "")
        faults = [fault for worker, theirs in found.items() for fault in _faults(worker, theirs, here, path, content)]
    if faults:
        raise BackendError("the workers are not fit to run this:\n" + "\n".join(f"  {fault}" for fault in faults))
    there = ask(client, "run_on_scheduler", pickle.loads, _carried(describe, (), ""))
    if there["pipeline"] is None or any(theirs["pipeline"] is None for theirs in found.values()):
        return _ship(client, here["pipeline"])
    return []


def _faults(worker: str, theirs: Any, here: Mapping[str, Any], path: str, content: str) -> Iterator[str]:
    if isinstance(theirs, BaseException):
        yield f"{worker}: {named(theirs)}"
        return
    for name in ("python", *_PACKAGES):
        ours, got = here[name], theirs[name]
        if got is None or (ours != got if name in _EXACT else _minor(ours) != _minor(got)):
            yield f"{worker}: {name} {got or 'is missing'}; here it is {ours}"
    if theirs["pipeline"] not in (None, here["pipeline"]):
        yield f"{worker}: pipeline differs from the one here: install the same one, or restart the worker"
    if path and theirs["marker"] != content:
        yield f"{worker}: does not see {Path(path).parent}: outputs need a folder that every worker shares"


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


@contextlib.contextmanager
def _marker(staging: str) -> Iterator[tuple[str, str]]:
    """A file that only those see who share the folder."""
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
    """Take plugins of ours off a scheduler that goes on without us; best effort, within seconds."""
    for name in names:
        with contextlib.suppress(BackendError, ValueError, KeyError, RuntimeError):
            ask(client, "unregister_worker_plugin", name, timeout=3)
    for name in (name for name in names if name.startswith("pipeline-package")):
        with contextlib.suppress(BackendError, ValueError, KeyError, RuntimeError):
            ask(client, "unregister_scheduler_plugin", name, timeout=3)


def versions() -> dict[str, str]:
    """Of what matters here, for the Trace's notes."""
    return {name: importlib.metadata.version(name) for name in _EXACT}


def fingerprint(modules: Mapping[str, bytes]) -> str:
    """A name for a set of modules that changes with their content."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        digest.update(name.encode() + b"\0" + modules[name] + b"\0")
    return digest.hexdigest()[:16]


def identity(client: Client) -> dict[str, Any]:
    """What the scheduler says of itself and of its workers."""

    scheduler: Any = client.scheduler

    async def call() -> dict[str, Any]:
        return dict(await scheduler.identity())

    try:
        found: dict[str, Any] = client.sync(call, callback_timeout=10)
    except (OSError, TimeoutError) as error:
        raise BackendError(f"the Dask scheduler does not answer: {named(error)}") from error
    return found


def in_loop(client: Client, function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function, or start a coroutine, on the client's event loop; at once, without waiting for it."""
    if client.loop is not None:
        client.loop.add_callback(function, *arguments)


class Health:
    """Whether the scheduler answers: asked every few seconds in which nothing is heard of it, without waiting.

    Parameters
    ----------
    silence : seconds without any word after which it counts as lost
    every : seconds between two questions
    no_workers : seconds without a single worker after which there is no use in waiting
    """

    def __init__(self, client: Client, *, silence: float, every: float, no_workers: float) -> None:
        self._client, self._silence, self._every, self._no_workers = client, silence, every, no_workers
        self._asked = self._checked = perf_counter()
        self._waited = 0.0  # seconds that we were awake and without a word since the question
        self._waiting = False
        self._unmanned: float | None = None  # since when there is no worker
        self._trouble = ""
        self.deaf = False  # it was found to be lost

    def heard(self) -> None:
        """Something came from the scheduler."""
        self._waited = 0.0

    def check(self) -> None:
        """Ask again if it is time, and look at what came of the last question; to be called often.

        Raises
        ------
        BackendError : if the scheduler is silent, or has been without workers, for too long
        """
        now = perf_counter()
        self._waited += min(now - self._checked, 1.0)  # this process may have slept (Ctrl-Z) while an answer waits
        self._checked = now
        if not self._waiting and not self._trouble:
            self._waited = 0.0
        if self._waited > self._silence:
            self.deaf = True
            reason = self._trouble or "it may be stopped, or cut off"
            raise BackendError(f"the Dask scheduler has not answered for {self._waited:.0f} s: {reason}")
        if self._unmanned is not None and now - self._unmanned > self._no_workers:
            raise BackendError(f"the Dask scheduler has had no worker for {self._no_workers:g} s: start workers")
        if not self._waiting and now - self._asked > self._every:
            self._asked, self._waiting = now, True
            in_loop(self._client, self._ask)

    async def _ask(self) -> None:
        scheduler: Any = self._client.scheduler
        try:
            answer = await scheduler.identity(n_workers=0)
        except Exception as error:  # noqa: BLE001 - whatever broke, the silence tells
            self._trouble = named(error)
        else:
            self._trouble = ""
            if answer["n_workers"]:
                self._unmanned = None
            elif self._unmanned is None:
                self._unmanned = perf_counter()
        finally:
            self._waiting = False
