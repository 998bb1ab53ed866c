"""Run a program, and see to it that it never outlives the task that runs it.

A program leads a session and a process group of its own: ending the group ends whatever it has started, and nothing of
it can ask a terminal for a password. The group is ended when the program has ended (what it left in the background
does not stay), at the timeout, at Ctrl-C, when a back end takes its threads back, and when the process that runs the
task is killed: for that a watcher waits at a pipe that closes with this process.

Its output goes to files, not through pipes: nobody has to read while it runs, and what it left in the background can't
hold up its end. Rejected: PR_SET_PDEATHSIG, which Linux alone has, which reaches the program but not what it started,
and which would need code between fork and exec; one watcher for all, which would live as long as the process does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import ProgramError, TaskTimeout

__all__ = ["Ended", "run", "stopping"]

_WATCHER = 'read -r ended && exit; kill -s KILL -- "-$1"; rm -rf -- "$2"'

_lock = threading.Lock()
_running: dict[int, int] = {}  # thread -> the process group that it runs
_stopped: set[int] = set()  # threads that may run nothing more


@dataclass(frozen=True)
class Ended:
    """A program that has ended: its return code (negative: the signal that ended it) and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    executable: str,
    cwd: str,
    env: Mapping[str, str],
    folder: str,
    stdin: str = os.devnull,
    timeout: float | None = None,
) -> Ended:
    """Run a program to its end.

    Parameters
    ----------
    executable : its file; ``argv[0]`` is the name that it is told
    folder : where its output is put; it is removed if this process is killed meanwhile
    stdin : path of a file
    timeout : seconds after which it is ended

    Returns
    -------
    the return code, and the paths of the files with its output

    Raises
    ------
    ProgramError : if the system can't run it
    TaskTimeout : if it ran too long
    """
    stdout, stderr = os.path.join(folder, "stdout"), os.path.join(folder, "stderr")
    with open(stdin, "rb") as source, open(stdout, "wb") as out, open(stderr, "wb") as err:
        try:
            process = subprocess.Popen(
                argv,
                executable=executable,
                cwd=cwd,
                env=dict(env),
                stdin=source,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # a null byte in an argument is a ValueError
            why = getattr(error, "strerror", None) or error
            raise ProgramError(f"{argv[0]} can't be run: {why} ({executable})") from error
    with _ended_with_us(process.pid, folder):
        try:
            return Ended(process.wait(timeout), stdout, stderr)
        except subprocess.TimeoutExpired:
            raise TaskTimeout(f"{argv[0]} ran longer than the timeout of {timeout:g} s") from None
        finally:
            _kill(process.pid)
            process.wait()


@contextlib.contextmanager
def _ended_with_us(group: int, folder: str) -> Iterator[None]:
    """Have a process group end with this process, or with the right of this thread to run programs."""
    thread = threading.get_ident()
    read, write = os.pipe()
    try:
        watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "sh", str(group), folder],
            stdin=read,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # who kills this process's group must not kill the watcher
        )
    except BaseException:
        _kill(group)
        os.close(write)
        raise
    finally:
        os.close(read)
    try:
        with _lock:
            _running[thread] = group
            if thread in _stopped:
                _kill(group)
        yield
    finally:
        with _lock:
            del _running[thread]
        os.write(write, b"\n")
        os.close(write)
        watcher.wait()


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


@contextlib.contextmanager
def stopping(threads: Sequence[int]) -> Iterator[None]:
    """End the programs that some threads run, and those that they start until this is left.

    Parameters
    ----------
    threads : by their idents
    """
    with _lock:
        _stopped.update(threads)
        for thread in threads:
            if thread in _running:
                _kill(_running[thread])
    try:
        yield
    finally:
        with _lock:
            _stopped.difference_update(threads)
