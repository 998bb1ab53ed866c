"""A lock file beside each output: only one run at a time may write it, and the next finds out if that run died.

The kernel releases a ``flock`` when its process ends, in whatever way. The text in the file names the run that holds
the lock, and its staging folder: text in a file that nobody has locked is from a run that died.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError

__all__ = ["Lock"]


class Lock:
    """An exclusive lock on one output; never waits for it.

    Parameters
    ----------
    path : of the lock file; its folder must exist
    output : name of the output, for messages
    """

    def __init__(self, path: Path, output: str) -> None:
        self.path, self.output = path, output
        self._number = -1

    def acquire(self) -> dict[str, Any] | None:
        """Take the lock; return the text of the last holder if it died, else None.

        This run is not written into the file yet (see :meth:`sign`): the dead run's text must stay until its staging
        folder is recovered.

        Raises
        ------
        OutputError : if another run holds it, naming that run
        """
        while True:
            number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _read(number)
                os.close(number)
                raise OutputError(self._held(holder)) from None
            except BaseException:
                os.close(number)
                raise
            if self._is_current(number):
                self._number = number
                return _read(number)
            os.close(number)  # the last holder removed the file between our open and our flock

    def sign(self, staging: str, run: str) -> None:
        """Write into the file, durably, which run holds the lock and where its staging folder is."""
        text = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "run": run,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "staging": staging,
        }
        data = (json.dumps(text) + "\n").encode()
        os.pwrite(self._number, data, 0)
        os.ftruncate(self._number, len(data))
        os.fsync(self._number)

    def release(self, *, clean: bool = True) -> None:
        """Release the lock; if not ``clean``, keep the file, so that the next run recovers the staging folder."""
        if self._number < 0:
            return
        if clean:
            self.path.unlink(missing_ok=True)
        # explicitly: a forked child may hold a copy of the descriptor, which would keep the lock alive
        fcntl.flock(self._number, fcntl.LOCK_UN)
        os.close(self._number)
        self._number = -1

    def _is_current(self, number: int) -> bool:
        try:
            return os.path.samestat(os.fstat(number), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _held(self, holder: dict[str, Any] | None) -> str:
        who = "another run"
        if holder:
            run, pid, host, since = (holder.get(name) for name in ("run", "pid", "host", "since"))
            who = f"run {run} (pid {pid} on {host}, since {since})"
        return f"output {self.output!r} is being written by {who}; wait for it, or end it"


def _read(number: int) -> dict[str, Any] | None:
    data = os.pread(number, 65536, 0)
    try:
        text = json.loads(data)
    except ValueError:  # empty, or its writer died in the middle: it had no staging folder yet
        return None
    return text if isinstance(text, dict) else None
