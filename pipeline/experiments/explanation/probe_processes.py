"""Children that answer: fresh processes that are asked one thing after the other, each answer by a deadline.

They are started, settled and ended as worker processes are (:mod:`pipeline.backends.local.child_processes`): deaf to
Ctrl-C, BLAS on
one thread, dead with whoever started them, killed with all that their tasks started. A child that ends or is late ends
the whole team: what it was asked is lost, and the next question goes to a new team.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from time import perf_counter
from typing import Any, NamedTuple, Self

from pipeline.backends.local.child_processes import Children, ended_by
from pipeline.errors import BackendError, PipelineError

__all__ = ["Failed", "Late", "ProbeProcesses", "silent"]


class Late(BackendError):
    """No answer came in time."""


class Failed(BackendError):
    """What a child was asked raised there, or ended it; the message says what."""


class _Refused(NamedTuple):
    """An answer: the question raised an exception."""

    cause: str


class ProbeProcesses:
    """Some children, alike. Entered, they are up; left, they and all below them have ended.

    Parameters
    ----------
    n : how many
    target : runs in each child: ``target(connection, *arguments)``; see :func:`serve`
    """

    def __init__(self, n: int, target: Callable[..., None], *arguments: Any) -> None:
        self.n = n
        self._target, self._arguments = target, arguments
        self._children = Children("spawn", blas_threads=1, n_slots=n)
        self._processes: list[Any] = []
        self.connections: list[Connection] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(self.n):
                here, there = self._children.context.Pipe()
                self.connections.append(here)
                process = self._children.process(target=self._target, args=(there, *self._arguments))
                process.start()
                there.close()
                self._processes.append(process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._children.end()
        for connection in self.connections:
            connection.close()
        self.connections = []

    def ask(self, message: Any, *, deadline: float, of: Sequence[int] | None = None) -> list[Any]:
        """The answers of all children, or of some, to one question that goes to all of them at once.

        Parameters
        ----------
        deadline : on the clock of ``perf_counter``

        Raises
        ------
        Late : if one is missing at the deadline
        Failed : if a child raised, or ended
        """
        asked = range(self.n) if of is None else of
        for i in asked:
            try:
                self.connections[i].send(message)
            except OSError as error:
                raise Failed(f"its process ended by {self._ended(i)}") from error
        answers, failed = [], None
        for i in asked:
            try:
                answers.append(self.answer(i, deadline=deadline))
            except Failed as error:  # the others' answers are read before it is told: they belong to this question
                failed = failed or error
        if failed is not None:
            raise failed
        return answers

    def answer(self, i: int, *, deadline: float) -> Any:
        """The next thing that a child says; see :meth:`ask`."""
        connection = self.connections[i]
        if not wait([connection, self._processes[i].sentinel], timeout=max(0.0, deadline - perf_counter())):
            raise Late("no answer in time")
        if not connection.poll():  # its end is seen before it can be reaped
            raise Failed(f"its process ended by {self._ended(i)}")
        try:
            said = connection.recv()
        except (EOFError, OSError) as error:
            raise Failed(f"its process ended by {self._ended(i)}") from error
        if isinstance(said, _Refused):
            raise Failed(said.cause)
        return said

    @property
    def living(self) -> bool:
        """Whether all of them run."""
        return all(process.exitcode is None for process in self._processes)

    def _ended(self, i: int) -> str:
        self._processes[i].join(timeout=1.0)
        return ended_by(self._processes[i])


def serve(connection: Connection, handlers: dict[str, Callable[..., Any]]) -> None:
    """Answer questions ``(name, arguments)`` by calling the handler of that name, until nobody asks any more."""
    from pipeline.worker.tracebacks import describe

    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = handlers[name](*arguments)
        except BaseException as error:  # noqa: BLE001 - the user's code runs here
            answer = _Refused(str(error) if isinstance(error, PipelineError) else describe(error))
        connection.send(answer)


def silent(log: str = os.devnull) -> None:
    """Let what tasks print in this child go to a file: they run many times over, and nobody asked for it."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
