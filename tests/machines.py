"""Machines of a small network: network namespaces with addresses of their own, each with a cable to the first one."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=60)


@dataclass
class Machine:
    """A network namespace. ``there``: the address of the first machine as this one sees it."""

    name: str
    there: str = "127.0.0.1"
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a Python process on this machine; its output is one pipe."""
        child = subprocess.Popen(
            ["ip", "netns", "exec", self.name, sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": str(HERE), **environment},
            cwd=HERE,  # not the repository, from where the package can be imported without being installed
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(child)
        return child

    def cut(self) -> None:
        """Cut the cable to the first machine."""
        _ip("-n", self.name, "link", "set", "cable", "down")

    def living(self) -> list[int]:
        """The processes that run on this machine."""
        done = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        return [int(pid) for pid in done.stdout.split() if _lives(int(pid))]


def _lives(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


@contextlib.contextmanager
def network(n: int) -> Iterator[list[Machine]]:
    """The first machine, and ``n`` others, each with a cable to it; all that runs on them ends with the block."""
    if shutil.which("ip") is None or os.geteuid():
        pytest.skip("network namespaces need root and iproute2")
    mark = secrets.token_hex(3)
    machines: list[Machine] = []
    with contextlib.ExitStack() as stack:
        for i in range(n + 1):
            machine = Machine(f"pipeline-{mark}-{i}")
            _ip("netns", "add", machine.name)
            stack.callback(_ip, "netns", "delete", machine.name)
            machines.append(machine)
            _ip("-n", machine.name, "link", "set", "lo", "up")
            if i:
                first, machine.there = machines[0].name, f"10.77.{i}.1"
                _ip(
                    "-n", first, "link", "add", f"to{i}", "type", "veth", "peer", "name", "cable", "netns", machine.name
                )
                _ip("-n", first, "addr", "add", f"{machine.there}/24", "dev", f"to{i}")
                _ip("-n", first, "link", "set", f"to{i}", "up")
                _ip("-n", machine.name, "addr", "add", f"10.77.{i}.2/24", "dev", "cable")
                _ip("-n", machine.name, "link", "set", "cable", "up")
        try:
            yield machines
        finally:
            for machine in machines:
                for child in machine.processes:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(child.pid, signal.SIGKILL)
                for pid in machine.living():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                for child in machine.processes:
                    child.wait()
                    assert child.stdout is not None
                    child.stdout.close()
