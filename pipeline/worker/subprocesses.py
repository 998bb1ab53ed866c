"""Run a program that never outlives the task that runs it.

The program leads a session and a process group: ending the group ends whatever it has started, and nothing in it can
ask a terminal for a password. The group is ended when the program has ended (what it left in the background is ended,
too), at the timeout, at Ctrl-C, when a back end stops its threads, and when the process of the task is killed: for that
a watcher process waits at a pipe that closes with the process.
"""

# The output goes to files, not through pipes: nobody has to read while the program runs, and a process that it left in
# the background can't hold up the end of file. Rejected: PR_SET_PDEATHSIG, which only Linux has, which reaches the
# program but not what it started, and which needs code between fork and exec; one watcher for all programs, which would
# live as long as the process does.

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import ProgramError, TaskTimeout

__all__ = ["Ended", "is_stopping", "run", "stopping"]

_WATCHER = 'read -r ended && exit; kill -s KILL -- "-$1"; rm -rf -- "$2"'

_lock = threading.Lock()
_running: dict[int, int] = {}  # thread -> the process group of its program
_stopped: set[int] = set()  # threads that may not run programs any more


@dataclass(frozen=True)
class Ended:
    """A program that has ended: its return code (negative: the signal that ended it) and the files of its output."""

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
    executable : its file; ``argv[0]`` is the name that the program sees
    folder : where its output is written; removed if this process is killed meanwhile
    stdin : path of a file
    timeout : seconds after which it is ended

    Returns
    -------
    Ended : the return code and the paths of the files with the output

    Raises
    ------
    ProgramError : if the system can't run it
    TaskTimeout : if it exceeded the timeout
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
    """End a process group when this process ends, or when this thread may not run programs any more."""
    thread = threading.get_ident()
    read, write = os.pipe()
    try:
        watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "sh", str(group), folder],
            stdin=read,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a signal to this process's group must not reach the watcher
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


def is_stopping() -> bool:
    """Return whether the back end of this thread is being left: a task that only waits should end."""
    return threading.get_ident() in _stopped


@contextlib.contextmanager
def stopping(threads: Sequence[int]) -> Iterator[None]:
    """End the programs that some threads run, and those that they start within the block.

    Parameters
    ----------
    threads : their idents
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
