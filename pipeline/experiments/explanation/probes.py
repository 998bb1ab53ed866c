"""The probes of one step: its kept tasks, run again by one worker, by threads, by processes, under a deadline.

A probe is asked of processes that were started for this step: the first runs the probes of one process, all of them
together those of n. All workers of a probe begin at one instant, which is told to them beforehand. Probes take turns
in every repeat, so that what slows the machine down for a second does not fall on one of them alone.

Repeats are there for the noise: two, and one more where the first two differ by more than can be told apart.
"""

from __future__ import annotations

import gc
import pickle
import resource
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from statistics import mean
from time import perf_counter, perf_counter_ns
from typing import Any

from pipeline.backends.local.child_main import set_up
from pipeline.backends.local.serialization import dump, load, pack, receive, send
from pipeline.experiments.explanation.measurements import NOISE, Moved, Reading, StepReadings
from pipeline.experiments.explanation.probe_processes import Failed, Late, ProbeProcesses, serve, silent
from pipeline.experiments.explanation.saved_task import Content, SavedTask
from pipeline.graph.graph import execute
from pipeline.units import duration_text
from pipeline.worker.process_setup import limit_threads

__all__ = ["probe"]

_LONGEST, _SHORTEST = (
    0.3,
    0.1,
)  # seconds that one worker takes for a batch, at least; the less, the more workers there are
_COUNTING = 0.1  # seconds of the control
_AHEAD = 15_000_000  # ns from the question to the common start
_REPEATS, _MORE = 2, 4
_MANY = 4  # times as many threads as cores, where tasks wait
_WAITING = 0.5  # CPU seconds a second below which that is tried
_NESTED = 1.3  # above which BLAS is seen to use threads
_UNIT = 20_000  # steps of counting at once


# ---------------------------------------------------------------------------------------------------------------------
# In the child
# ---------------------------------------------------------------------------------------------------------------------


class _Prober:
    """What a child knows: the tasks of the step, with their inputs."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.tasks: list[tuple[Any, dict[Any, Any], Content]] = []

    def load(self, setup: str, paths: Sequence[str]) -> None:
        """Have the tasks ready, and each run once: imports and first touches belong to no probe."""
        set_up(setup)
        for path in paths:
            content = Content.load(path)
            self.tasks.append((pickle.loads(content.node), {k: load(p) for k, p in content.inputs.items()}, content))
        for node, inputs, _ in self.tasks:
            execute(node, inputs)
        gc.collect()

    def rehearse(self) -> float:
        """Seconds of one round of the batch."""
        began = perf_counter()
        for node, inputs, _ in self.tasks:
            execute(node, inputs)
        return perf_counter() - began

    def run(self, n_threads: int, rounds: int, start: int) -> tuple[int, float]:
        """Run the batch in so many threads, ``rounds`` times each; when the last was done (ns), and CPU seconds."""
        errors: list[BaseException] = []

        def work() -> None:
            _sleep_until(start)
            try:
                for _ in range(rounds):
                    for node, inputs, _ in self.tasks:
                        execute(node, inputs)
            except BaseException as error:  # noqa: BLE001 - the user's code runs here; it is raised again below
                errors.append(error)

        return _timed([threading.Thread(target=work) for _ in range(n_threads)], errors, start)

    def count(self, rounds: int, start: int) -> tuple[int, float]:
        """Count, which shares nothing with anybody; as :meth:`run`."""

        def work() -> None:
            _sleep_until(start)
            for _ in range(rounds):
                _count()

        return _timed([threading.Thread(target=work)], [], start)

    def threads(self, n: int) -> None:
        """Give BLAS, OpenMP and Arrow so many threads."""
        limit_threads(n)

    def moving(self, i: int, repeats: int) -> tuple[float, float]:
        """Take the inputs of a task in, give its result out; seconds of the fastest repeat, and bytes."""
        node, inputs, content = self.tasks[i]
        best, nbytes = float("inf"), 0
        value = execute(node, inputs) if content.gives else None
        for _ in range(repeats):
            self.connection.send("ready")
            self.connection.poll(None)
            began = perf_counter()
            packed, n_in = receive(self.connection)
            taken = {key: load(one) for key, one in packed.items()}
            spent = perf_counter() - began
            del packed, taken
            began = perf_counter()
            head, buffers = dump(pack(value) if content.gives else None)
            spent += perf_counter() - began
            self.connection.send("packed")
            began = perf_counter()
            send(self.connection, head, buffers)
            best = min(best, spent + perf_counter() - began)
            nbytes = n_in + len(head) + sum(buffer.nbytes for buffer in buffers)
        return best, float(nbytes)


def _serve(connection: Connection) -> None:
    silent()
    prober = _Prober(connection)
    names = ("load", "rehearse", "run", "count", "threads", "moving")
    serve(connection, {name: getattr(prober, name) for name in names})


def _timed(threads: Sequence[threading.Thread], errors: Sequence[BaseException], start: int) -> tuple[int, float]:
    for thread in threads:
        thread.start()
    _sleep_until(start)
    cpu = _cpu()
    for thread in threads:
        thread.join()
    stop, spent = perf_counter_ns(), _cpu() - cpu
    if errors:
        raise errors[0]
    return stop, spent


def _sleep_until(start: int) -> None:
    time.sleep(max(0, start - perf_counter_ns()) / 1e9)


def _cpu() -> float:
    """CPU seconds of this process, all its threads, and the programs that it has waited for."""
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + below.ru_utime + below.ru_stime


def _count() -> int:
    n = 0
    for i in range(_UNIT):
        n += i
    return n


# ---------------------------------------------------------------------------------------------------------------------
# Here
# ---------------------------------------------------------------------------------------------------------------------


def probe(
    step: str, kept: Sequence[SavedTask], *, setup: str, n_workers: int, n_cores: int, deadline: float
) -> StepReadings:
    """Run the probes of one step in fresh processes.

    Parameters
    ----------
    kept : its sampled tasks, at least one
    setup : what :func:`pipeline.backends.local.child_main.write_setup` wrote
    deadline : on the clock of ``perf_counter``: then all processes have ended

    Raises
    ------
    Late : if the probes of a single repeat could not be made in time
    Failed : if a task failed when it was run again, or ended its process
    """
    with ProbeProcesses(n_workers, _serve) as team:
        probing = _Probing(team, n_workers, n_cores, deadline)
        team.ask(("load", (setup, [one.path for one in kept])), deadline=deadline)
        probing.calibrate(len(kept))
        probing.repeat()
        moved = probing.moved(kept)
        probing.more()
    return probing.readings(step, moved)


@dataclass
class _Probing:
    """The probes of one step on their way. States: calibrated -> one repeat -> as many as are needed and fit."""

    team: ProbeProcesses
    n: int
    n_cores: int
    deadline: float
    rounds: int = 1
    counting: int = 1
    per_round: int = 1
    one_batch: float = 0.0
    last: float = 0.0  # seconds of the last repeat
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    skipped: set[str] = field(default_factory=set)

    @property
    def left(self) -> float:
        return self.deadline - perf_counter()

    def calibrate(self, n_tasks: int) -> None:
        """Choose how often the batch is run, so that a probe lasts long enough; refuse what can't be done in time."""
        (round_,) = self.team.ask(("rehearse", ()), deadline=self.deadline, of=[0])
        least = min(_LONGEST, max(_SHORTEST, 1.0 / self.n))
        self.rounds = max(1, round(least / max(round_, 1e-6) + 0.5))
        self.per_round, self.one_batch = n_tasks, self.rounds * round_
        began = perf_counter()
        for _ in range(10):
            _count()
        self.counting = max(1, round(_COUNTING / ((perf_counter() - began) / 10)))
        needed = self.one_batch * (2 + self.n)  # one worker, n processes, and n threads where they hold a lock
        if needed > self.left:
            raise Late(f"one repeat of its probes takes up to {duration_text(needed)}")

    def repeat(self) -> None:
        """Run every probe once."""
        began = perf_counter()
        n, rounds = self.n, self.rounds
        self._probe("counting", [0], ("count", (self.counting,)))
        self._probe("counting_processes", range(n), ("count", (self.counting,)))
        self._probe("one", [0], ("run", (1, rounds)))
        self._probe("threads", [0], ("run", (n, rounds)))
        self._probe("processes", range(n), ("run", (1, rounds)))
        self._blas(rounds)
        if self._waits():
            self._optional("many", [0], ("run", (_MANY * self.n_cores, rounds)), expected=2 * self.one_batch)
        self.last = perf_counter() - began

    def _blas(self, rounds: int) -> None:
        """BLAS with a thread a core: one worker, and all of them where that was seen to start threads."""
        if self._waits() or self.n_cores < 2 or self.left < 2 * self.one_batch:
            return
        if "blas" in self.skipped:
            return
        self.team.ask(("threads", (self.n,)), deadline=self.deadline)
        self._optional("blas", [0], ("run", (1, rounds)), expected=self.one_batch)
        if "blas" in self.seconds and self._busy("blas") > _NESTED > self._busy("one"):
            self._optional("blas_processes", range(self.n), ("run", (1, rounds)), expected=self.n * self.one_batch)
        else:
            self.skipped.add("blas")  # nothing is learned from another repeat
        self.team.ask(("threads", (1,)), deadline=self.deadline)

    def more(self) -> None:
        """Repeat as often as the noise asks for, and the time allows."""
        while len(self.seconds["one"]) < _MORE and self.left > 1.3 * self.last:
            if len(self.seconds["one"]) >= _REPEATS and not self._noisy():
                return
            self.repeat()

    def _noisy(self) -> bool:
        return any(self._reading(name).spread > NOISE for name in ("one", "threads", "processes"))

    def _busy(self, name: str) -> float:
        return self._reading(name).busy

    def _waits(self) -> bool:
        """Whether the lone worker waits: of the part of a core that one gets now."""
        return self._busy("one") < _WAITING * min(1.0, self._busy("counting"))

    def _optional(self, name: str, of: Sequence[int] | range, question: Any, *, expected: float) -> None:
        if expected < self.left:
            self._probe(name, of, question)

    def _probe(self, name: str, of: Sequence[int] | range, question: tuple[str, tuple[Any, ...]]) -> None:
        """Ask it of some children, all beginning at one instant."""
        start = perf_counter_ns() + _AHEAD + 1_000_000 * len(of)
        what, arguments = question
        answers = self.team.ask((what, (*arguments, start)), deadline=self.deadline, of=list(of))
        self.seconds[name].append((max(stop for stop, _ in answers) - start) / 1e9)
        self.cpu[name].append(sum(cpu for _, cpu in answers))

    def moved(self, kept: Sequence[SavedTask]) -> Moved | None:
        """Have the tasks' inputs and results moved through a pipe, as a back end with worker processes does."""
        found = []
        connection = self.team.connections[0]
        for i, one in enumerate(kept):
            content = Content.load(one.path)
            if not content.moved and not content.gives:
                continue
            head, buffers = dump({key: content.inputs[key] for key in content.moved})
            connection.send(("moving", (i, _REPEATS)))
            try:
                for _ in range(_REPEATS):
                    self.team.answer(0, deadline=self.deadline)
                    send(connection, head, buffers)
                    self.team.answer(0, deadline=self.deadline)
                    receive(connection)
                found.append(self.team.answer(0, deadline=self.deadline))
            except Failed:
                if not self.team.living:
                    raise
                return None  # its result can't be pickled: a back end with processes can't run it at all
        if not found:
            return None
        return Moved(mean(seconds for seconds, _ in found), mean(nbytes for _, nbytes in found))

    def _reading(self, name: str) -> Reading:
        n = dict.fromkeys(("threads", "processes", "blas_processes", "counting_processes"), self.n)
        n["many"] = _MANY * self.n_cores
        return Reading(n.get(name, 1), self.rounds * self.per_round, tuple(self.seconds[name]), tuple(self.cpu[name]))

    def readings(self, step: str, moved: Moved | None) -> StepReadings:
        """What was measured."""
        blas, blas_processes, many = (
            self._reading(name) if self.seconds.get(name) else None for name in ("blas", "blas_processes", "many")
        )
        return StepReadings(
            step,
            self.n,
            self.n_cores,
            self._reading("one"),
            self._reading("threads"),
            self._reading("processes"),
            counting=self._reading("counting"),
            counting_processes=self._reading("counting_processes"),
            blas=blas,
            blas_processes=blas_processes,
            many=many,
            moved=moved,
        )
