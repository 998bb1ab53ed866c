"""A seed -> one disturbed run: which pipeline and back end, who is hit by what and when; and how that may end."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass

from chaos.pipelines import PIPELINES, TIMED

__all__ = ["BACKENDS", "Case", "Moment"]

_SIGNALS = ["SIGKILL", "SIGINT", "SIGINT twice", "SIGTERM", "SIGSTOP", "SIGSTOP for ever"]

# The first two of each are run by test_chaos.py: its short form has every back end, every signal and every target.
BACKENDS: dict[str, list[tuple[str, str]]] = {
    "serial": [("parent", "SIGINT"), ("parent", "SIGTERM")],
    "threads": [("parent", "SIGINT twice"), ("parent", "SIGKILL")],
    "pool": [("worker", "SIGKILL"), ("parent", "SIGSTOP")],
    "processes": [("worker", "SIGSTOP for ever"), ("parent", "SIGINT")],
    "process-per-task": [("worker", "SIGKILL"), ("parent", "SIGTERM")],
    "manager": [("worker", "SIGKILL"), ("parent", "SIGKILL")],
    "dask": [("worker", "SIGKILL"), ("parent", "SIGKILL")],
    "standing": [("scheduler", "SIGKILL"), ("nanny", "SIGTERM")],
}
"""Back end -> target and signal of its cases; ``standing`` is a Dask scheduler that was there before the run."""
for _backend, _first in BACKENDS.items():
    _targets = {"serial": 1, "threads": 1, "standing": 4}.get(_backend, 2)
    _pairs = [(who, name) for who in ("parent", "worker", "nanny", "scheduler")[:_targets] for name in _SIGNALS]
    _first += [one for one in _pairs if one not in _first and (one[0] == "parent" or one[1] != "SIGINT twice")]


@dataclass(frozen=True)
class Moment:
    """When the signal is sent.

    Parameters
    ----------
    at : ``workers`` (the first is there), ``task`` (so many have begun), ``staged``, ``commit``, ``committed``, or
        ``fraction`` (of what the run takes undisturbed)
    value : number of tasks, or the fraction
    delay : seconds after that
    """

    at: str
    value: float
    delay: float


@dataclass(frozen=True)
class Case:
    """One disturbed run.

    Parameters
    ----------
    target : ``parent`` (Ctrl-C reaches its whole process group), ``worker``, ``nanny``, ``scheduler``
    moments : of the first try, and of the next ones, each earlier, where the signal came too late
    pause : seconds until the second Ctrl-C, or until a stopped process goes on
    earlier : whether there are outputs of an earlier run
    limit, gone_limit : seconds for the run to end after the signal (distributed waits 60 s for workers); for the last
        of its processes after that
    """

    seed: int
    pipeline: str
    backend: str
    target: str
    signal_name: str
    moments: tuple[Moment, ...]
    pause: float
    earlier: bool
    limit: float = 150.0
    gone_limit: float = 60.0

    @classmethod
    def of(cls, seed: int) -> Case:
        """Return the case of a seed: back ends and signals take turns, the rest is random."""
        rng = random.Random(seed)
        backend = list(BACKENDS)[seed % len(BACKENDS)]
        target, name = BACKENDS[backend][seed // len(BACKENDS) % len(BACKENDS[backend])]
        # what tasks leave in the parent, or in the workers of others, is not the run's to end
        pipelines = [p for p in PIPELINES if p != "children" or backend not in ("serial", "threads", "standing")]
        at = rng.choice(
            ["fraction", "task", "task", "workers", "staged", *["commit", "committed"] * (target == "parent")]
        )
        fractions = [Moment(at, rng.uniform(0.05, 1) * 0.6**i, 0.0) for i in range(3)]
        first = Moment(at, rng.randint(1, 7), rng.uniform(0, 0.005 if at.startswith("commit") else 0.2))
        moments = fractions if at == "fraction" else [first, Moment("task", 3, 0.0), Moment("task", 1, 0.0)]
        pause = rng.uniform(1, 20) if name == "SIGSTOP" else rng.uniform(0, 0.5)
        return cls(seed, rng.choice(pipelines), backend, target, name, tuple(moments), pause, rng.random() < 0.7)

    @property
    def signal(self) -> signal.Signals:
        return signal.Signals[self.signal_name.split()[0]]

    @property
    def for_ever(self) -> bool:
        return self.signal_name == "SIGSTOP for ever"

    @property
    def may_wait(self) -> bool:
        """Whether the run waits for a worker that is stopped for ever, and not its own: its user ends it by Ctrl-C."""
        others = self.target == "worker" and self.backend == "standing"
        return self.for_ever and others and self.pipeline not in TIMED

    def exit_codes(self) -> set[int]:
        """Return the exit codes that are documented for it, as a shell shows them."""
        stopped, may_time_out = self.signal == signal.SIGSTOP, {4} if self.pipeline in TIMED else set()
        if self.target == "parent":
            if self.for_ever:  # it is killed then
                return {128 + signal.SIGKILL}
            return {0} | may_time_out if stopped else {128 + self.signal}
        if self.target == "scheduler":
            return {0, 4} if stopped and not self.for_ever else {4}
        if stopped:
            given_up = {130} if self.may_wait else {4} if self.backend == "pool" and self.for_ever else set()
            return {0} | may_time_out | given_up
        return {0, 4} if self.backend == "pool" and self.signal != signal.SIGINT else {0}

    def __str__(self) -> str:
        moment = self.moments[0]
        return (
            f"seed {self.seed}: {self.pipeline} on {self.backend}, {self.signal_name} to {self.target} at {moment.at} "
            f"{moment.value:.2g} + {moment.delay:.3f} s, pause {self.pause:.1f} s"
            f"{'' if self.earlier else ', no earlier outputs'}"
        )
