"""Dask schedulers and workers in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from conftest import until

from pipeline.backends.base import Backend
from pipeline.backends.dask import health
from pipeline.backends.dask.cluster import restart_workers

HERE = Path(__file__).parent


@contextlib.contextmanager
def process(*arguments: str, through: Sequence[str] = (), **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that ends with the block, children included; ``through``: the command that starts it."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), **environment}
    with subprocess.Popen(
        [*through, sys.executable, *arguments],
        env=environment,
        cwd=HERE,  # not the repository, from where the package can be imported without being installed
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Standing:
    """A scheduler in a process of its own, which writes its address to a file as soon as it listens."""

    pid: int
    file: Path

    @cached_property
    def address(self) -> str:
        assert until(lambda: bool(self._written()))
        return self._written()

    def _written(self) -> str:
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):  # not there, or half written
            return str(json.loads(self.file.read_text())["address"])
        return ""


@contextlib.contextmanager
def scheduler() -> Iterator[Standing]:
    """A scheduler that is starting."""
    command = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "scheduler.json")
        with process(*command, "--no-show", "--scheduler-file", str(file)) as child:
            yield Standing(child.pid, file)


@contextlib.contextmanager
def worker(
    found: Standing, *flags: str, through: Sequence[str] = (), **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """A worker without a nanny in a process of its own, which the scheduler knows."""
    command = ["-m", "distributed.cli.dask_worker", "--scheduler-file", str(found.file), "--no-nanny", "--no-dashboard"]
    with process(*flags, *command, "--nthreads", "1", through=through, **environment) as child:
        assert child.stderr is not None
        said = []
        while "Registered to" not in (line := child.stderr.readline()):
            said.append(line)
            assert line, "".join(said)
        yield child


def manned(backend: Backend) -> bool:
    """Whether an open back end has all its workers: Dask starts one in the place of one that was ended meanwhile."""
    client = getattr(backend, "_client", None)
    if client is None:
        return True

    def all_there() -> bool:
        health.in_loop(client, restart_workers, client.cluster)
        return len(health.identity(client)["workers"]) == 2

    return until(all_there)
