"""A kernel of Jupyter in a process of its own, driven as a notebook drives it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import GRACE


@dataclass
class Shown:
    """What a cell shows: the data of its displays (by their id, each as it was last), its printed text, its error."""

    result: dict[str, str] = field(default_factory=dict)
    displays: dict[str, dict[str, str]] = field(default_factory=dict)
    n_updates: int = 0
    printed: str = ""
    error: str = ""
    traceback: str = ""

    @property
    def text(self) -> str:
        """The result, as text."""
        return self.result.get("text/plain", "")

    @property
    def display(self) -> str:
        """The only display, as text."""
        (data,) = self.displays.values()
        return data["text/plain"]


class Kernel:
    """A kernel that runs cells one after the other."""

    def __init__(self, manager: Any, client: Any) -> None:
        self._manager, self._client = manager, client
        self.process = psutil.Process(manager.provisioner.pid)

    def start(self, cell: str) -> str:
        """Start a cell; the result is for :meth:`ended`."""
        return str(self._client.execute(cell))

    def ended(self, cell: str) -> Shown:
        """Wait until a cell has ended, and return what it shows."""
        shown = Shown()
        while True:
            message = self._client.get_iopub_msg(timeout=GRACE)
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                shown.printed += content["text"]
            elif kind == "execute_result":
                shown.result = content["data"]
            elif kind in ("display_data", "update_display_data"):
                number = content["transient"].get("display_id", str(len(shown.displays)))
                shown.displays[number] = content["data"]
                shown.n_updates += kind == "update_display_data"
            elif kind == "error":
                shown.error = f"{content['ename']}: {content['evalue']}"
                shown.traceback = "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                return shown

    def run(self, cell: str) -> Shown:
        """Run a cell that must not fail."""
        shown = self.ended(self.start(cell))
        assert not shown.error, shown.traceback
        return shown

    def interrupt(self) -> None:
        """What the button of a notebook does: SIGINT to the kernel and to what it has started."""
        self._manager.interrupt_kernel()

    def children(self) -> set[tuple[int, str]]:
        found = set()
        for child in self.process.children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has just ended
                found.add((child.pid, " ".join(child.cmdline())))
        return found


@contextlib.contextmanager
def kernel(folder: Path) -> Iterator[Kernel]:
    """Start a kernel in a folder, and end it with the block."""
    pytest.importorskip("ipykernel")  # CI lets the skip fail
    from jupyter_client.manager import KernelManager

    environment = {**os.environ, "IPYTHONDIR": str(folder / "ipython"), "PYTHONWARNINGS": "default"}
    manager = KernelManager(kernel_name="python3", connection_file=str(folder / "connection.json"), transport="ipc")
    manager.ip = str(folder / "sockets")
    manager.start_kernel(cwd=str(folder), env=environment)
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=GRACE)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy()


def without_times(notebook: Path) -> str:
    """The text of a notebook without the times at which its cells were run."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        cell["metadata"].pop("execution", None)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(without_times(source), encoding="utf-8")
