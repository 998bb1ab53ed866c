"""The result of a comparison: rows of medians with intervals, accounts, causes. Its sentences are made in `report`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.trace.statistics import Interval, median

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.config.model import Config
    from pipeline.experiments.comparison.advice import Reason, Recommendation
    from pipeline.graph.graph import Graph
    from pipeline.trace.account import Account


__all__ = [
    "REFERENCE",
    "Case",
    "Comparison",
    "Difference",
    "JudgedClaim",
    "Measurement",
    "Reference",
    "Row",
    "Scaling",
    "equality_text",
]

REFERENCE = "the reference"
"""Label of the call in one thread, among the cases."""

_DIFFERENT = 6  # exit code
_ONE_CORE = 1.1  # cores, at most, that a run in one thread keeps busy, clocks and loops beside it included


@dataclass(frozen=True)
class Case:
    """A back end with a number of workers, measured in each round.

    Parameters
    ----------
    workers : 0: a running cluster, with the workers that it has
    scaled : the back end is measured with several numbers of workers, so its name is no unique label
    """

    backend: str
    workers: int
    scaled: bool = False

    @property
    def label(self) -> str:
        """Return the label of the case, unique within a comparison.

        >>> Case("pool", 4, scaled=True).label
        'pool x4'
        """
        return f"{self.backend} x{self.workers}" if self.scaled else self.backend


@dataclass(frozen=True)
class Measurement:
    """One measured run in a fresh process; times in seconds, sizes in bytes.

    Parameters
    ----------
    case : the label of the case
    elapsed : from the first submit to the last output verified, workers warm; ``verify`` is part of it
    user, system : CPU time within ``elapsed``, of the process and all processes below it
    memory : peak resident memory of the process and all processes below it (shared pages count in each)
    process : lifetime of the process, imports included
    starved : time within ``elapsed`` for which threads were ready to run and had no core; None: unknown
    dropped : number of items that failed and were left out
    trace : path of its Trace
    """

    case: str
    backend: str
    round: int
    elapsed: float
    start_up: float
    verify: float
    commit: float
    user: float
    system: float
    memory: float
    n_workers: int
    process: float
    trace: str = ""
    starved: float | None = None
    dropped: int = 0

    @property
    def everything(self) -> float:
        """Return the elapsed time with the start of the workers and the commit."""
        return self.start_up + self.elapsed + self.commit


@dataclass(frozen=True)
class Difference:
    """One output or value of a run compared with serial's.

    Parameters
    ----------
    what : ``output 'name'`` or ``'step'``
    largest : largest relative difference
    tolerance : the largest one that counts as equal
    message : what differs; empty if nothing does
    """

    what: str
    same: bool
    bitwise: bool
    largest: float = 0.0
    tolerance: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class JudgedClaim:
    """A claim, what was measured for it, and whether it is true on this machine.

    Parameters
    ----------
    claim : in the words of the file
    labels : of the back ends that it is about
    what : what was measured: ``time of serial / threads``
    measured : its value: a ratio, cores, seconds or bytes; None if a back end did not run
    bound : what it must be: ``>= 1.2``
    verdict : ``true here``, ``false here``, ``no difference shown`` (its interval contains the bound, or there were
        fewer than 3 rounds), or that a back end did not run
    """

    claim: str
    labels: tuple[str, ...]
    what: str
    measured: Interval | None
    bound: str
    verdict: str


@dataclass(frozen=True)
class Reference:
    """The call that does the whole job in one thread, measured beside the back ends.

    Parameters
    ----------
    call : ``module:function``
    elapsed : seconds of the call, over the rounds
    speedup : of the call over serial: what running as tasks costs one worker
    differences : its results compared with serial's outputs
    cost : back end -> the fewest workers with which it was faster; None: with none of those measured
    failure : why it did not run; empty if it ran
    """

    call: str
    elapsed: Interval | None = None
    speedup: Interval | None = None
    differences: tuple[Difference, ...] = ()
    cost: Mapping[str, int | None] = field(default_factory=dict)
    failure: str = ""

    @property
    def equality(self) -> str:
        """Return how far its results equal serial's, in a few words."""
        return equality_text(self.differences) if self.differences else "not compared: the file has no outputs"


@dataclass(frozen=True)
class Row:
    """One case, with medians over its rounds.

    Parameters
    ----------
    reference : it is serial, which the others are compared with
    speedup_all : with the start of the workers and the commit
    saved : share of the reference's elapsed time that it saves, signed; None for the reference
    saved_beside_processes : share that it saves of the elapsed time of the back end ``process-per-task`` with as many
        workers; None where that did not run, and for itself
    differs : whether its elapsed time differs from the reference's (their intervals do not overlap)
    equality : whether its results are the reference's: ``equal``, ``within 1e-12``, ``DIFFERENT``
    failure : why it did not run; empty if it ran
    """

    label: str
    backend: str
    workers: int
    reference: bool = False
    n_rounds: int = 0
    elapsed: Interval | None = None
    speedup: Interval | None = None
    efficiency: float | None = None
    speedup_all: Interval | None = None
    saved: float | None = None
    saved_beside_processes: float | None = None
    differs: bool = False
    user: float = math.nan
    system: float = math.nan
    start_up: float = math.nan
    verify: float = math.nan
    commit: float = math.nan
    memory: float = math.nan
    equality: str = ""
    failure: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class Comparison:
    """How fast each back end is, and whether its results are the reference's.

    :class:`pipeline.report.verdicts.ComparisonReport` adds the sentences: verdict, footnotes, problem.

    Parameters
    ----------
    rows : one for each case, the reference first
    differences : label of a case -> what was compared, over all rounds
    measurements : all measured runs
    accounts : where the core-seconds of each case went, serial's included
    causes : label of a case -> why its speedup is not higher
    recommendations : what to change, the change that should save most first
    scaling : a law of the speedup for each back end that was measured with several numbers of workers
    reference : the job in one thread, if the file names one
    claims : what the file claims of back ends, judged
    fingerprint : of the Graph that all cases ran
    folder : the run folder, with the Graph, the traces, ``report.json`` and ``report.html``
    graph, config : what was compared, for the report
    interrupted, interrupted_by : exit code and name of the signal that ended it before all rounds were made; 0 if none
    """

    name: str
    fingerprint: str
    n_tasks: int
    folder: str
    rows: tuple[Row, ...]
    measurements: tuple[Measurement, ...] = ()
    differences: Mapping[str, Sequence[Difference]] = field(default_factory=dict)
    accounts: tuple[Account, ...] = ()
    causes: Mapping[str, Reason] = field(default_factory=dict)
    recommendations: tuple[Recommendation, ...] = ()
    scaling: tuple[Scaling, ...] = ()
    reference: Reference | None = None
    claims: tuple[JudgedClaim, ...] = ()
    graph: Graph | None = field(default=None, repr=False)
    config: Config | None = field(default=None, repr=False)
    interrupted: int = 0
    interrupted_by: str = ""

    @property
    def ran(self) -> list[Row]:
        """Return the rows of the cases that ran."""
        return [row for row in self.rows if not row.failure]

    @property
    def recommendation(self) -> Recommendation | None:
        """Return the first change that was not tried in vain; None if there is none."""
        return next((one for one in self.recommendations if one.helps is not False), None)

    @property
    def unequal(self) -> list[tuple[str, Difference]]:
        """Return the differences in results, each with the label of its case."""
        every = {**self.differences, **({REFERENCE: self.reference.differences} if self.reference else {})}
        return [(name, d) for name, found in every.items() for d in found if not d.same]

    @property
    def dropped(self) -> int:
        """Return the number of items that failed and were left out of a run, at most."""
        return max((m.dropped for m in self.measurements), default=0)

    @property
    def disturbed(self) -> float:
        """Return the share of its elapsed time for which serial, which needs one core, had none; 0 if unknown.

        It is unknown if its tasks keep more than one core busy: their threads wait for each other's cores.
        """
        runs = [
            m
            for m in self.measurements
            if m.case == self.rows[0].label and m.starved and m.user + m.system < _ONE_CORE * m.elapsed
        ]
        shares = [m.starved / max(m.elapsed, m.starved + m.user + m.system) for m in runs if m.starved]
        return median(shares) if shares else 0.0  # a short run's threads wait beside it, too

    @property
    def exit_code(self) -> int:
        """Return the code of a signal that ended it, else 6 for unequal results, else of the first case that failed.

        It is 1 for dropped items, else 0.
        """
        if self.interrupted:
            return self.interrupted
        if self.unequal:
            return _DIFFERENT
        if self.reference is not None and self.reference.failure:
            return 1
        return next((row.exit_code or 4 for row in self.rows if row.failure), 1 if self.dropped else 0)

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each case: seconds, bytes and ratios; intervals as ``…_low`` and ``…_high``."""
        import pandas as pd  # heavy, and needed here alone

        return pd.DataFrame([_flat(row) for row in self.rows]).set_index("label")


def equality_text(found: Sequence[Difference]) -> str:
    """Return whether results are equal, in a word or two."""
    if any(not d.same for d in found):
        return "DIFFERENT"
    if all(d.bitwise for d in found):
        return "equal"
    return f"within {max(d.largest for d in found):.1g}"


def _flat(row: Row) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, value in vars(row).items():
        if name in ("elapsed", "speedup", "speedup_all"):
            cells |= {
                name: value.value if value else math.nan,
                f"{name}_low": value.low if value else math.nan,
                f"{name}_high": value.high if value else math.nan,
            }
        else:
            cells[name] = math.nan if value is None else value
    return cells


@dataclass(frozen=True)
class Scaling:
    """How one back end scales with its number of workers.

    Parameters
    ----------
    points : one for each number of workers: workers, elapsed, speedup, Karp-Flatt's serial fraction (None for 1)
    serial_fraction : Amdahl's, by least squares
    largest_speedup : what Amdahl's law allows with any number of workers; None: no bound
    contention, coherency : of the universal scalability law, from six points on
    curve : workers, speedup, the law, and whether it is extrapolated
    """

    backend: str
    points: tuple[Mapping[str, Any], ...]
    serial_fraction: float
    largest_speedup: float | None
    contention: float | None
    coherency: float | None
    curve: tuple[Mapping[str, Any], ...]
