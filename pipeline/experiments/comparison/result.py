"""What a comparison found: rows of medians with intervals, and a verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.config.resolved_yaml import without_nan
from pipeline.trace.statistics import Interval, differ, median
from pipeline.units import count_text, ratio_text

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.trace.account import Account


__all__ = ["Case", "Comparison", "Difference", "Measurement", "Reference", "Row", "equality_text"]

_DIFFERENT = 6
_REFERENCE = "the reference"  # the call in one thread, among the cases
_DISTURBED = 0.10  # of serial's time without a core, from which it is told
_ONE_CORE = 1.1  # cores, at most, that a run in one thread keeps busy, clocks and loops beside it included


@dataclass(frozen=True)
class Case:
    """What is measured in each round: a back end with a number of workers.

    ``scaled`` where a back end is measured with several numbers of workers, so that its name alone does not tell.
    """

    backend: str
    workers: int
    scaled: bool = False

    @property
    def label(self) -> str:
        """What tells it from the others of a comparison.

        >>> Case("pool", 4, scaled=True).label
        'pool x4'
        """
        return f"{self.backend} x{self.workers}" if self.scaled else self.backend


@dataclass(frozen=True)
class Measurement:
    """One measured run, in a fresh process: seconds and bytes.

    Parameters
    ----------
    case : the label of what was measured
    elapsed : from the first submit to the last output verified, workers warm; ``verify`` is part of it
    user, system : CPU within ``elapsed``, of the process and all below it
    memory : peak of the resident memory of the process and all below it, added up (shared pages count in each)
    process : the whole life of the process, imports included
    starved : seconds within ``elapsed`` for which threads were ready to run and had no core; None: not known
    dropped : items that failed and were left out
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
        """Seconds with the start of the workers and the commit included."""
        return self.start_up + self.elapsed + self.commit


@dataclass(frozen=True)
class Difference:
    """One output or value of one run against serial's; ``largest`` is the largest relative difference."""

    what: str
    same: bool
    bitwise: bool
    largest: float = 0.0
    tolerance: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class Reference:
    """The whole job as its user would write it in one thread, measured beside the back ends.

    Parameters
    ----------
    call : ``module:function``
    elapsed : seconds of the call, over the rounds
    speedup : of serial's elapsed time over its own: what the machinery of tasks costs one worker
    differences : what it gave, against serial's outputs
    cost : back end -> the fewest workers with which it was faster; None: with none of those measured
    failure : why it did not run, if it did not
    """

    call: str
    elapsed: Interval | None = None
    speedup: Interval | None = None
    differences: tuple[Difference, ...] = ()
    cost: Mapping[str, int | None] = field(default_factory=dict)
    failure: str = ""

    @property
    def equality(self) -> str:
        """How equal its results are to serial's, in a few words."""
        return equality_text(self.differences) if self.differences else "not compared: the file has no outputs"


@dataclass(frozen=True)
class Row:
    """One case; medians over its rounds. ``failure`` says why it did not run, if it did not."""

    label: str
    backend: str
    workers: int
    reference: bool = False
    n_rounds: int = 0
    elapsed: Interval | None = None
    speedup: Interval | None = None
    efficiency: float | None = None
    speedup_all: Interval | None = None
    differs: bool = False  # its elapsed time from the reference's
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

    Parameters
    ----------
    rows : one a back end, the reference first
    differences : label of a case -> what was compared, over all rounds
    measurements : every run
    accounts : where the core-seconds of each case went, serial's included
    reasons : label of a case -> why its speedup is not higher, in a sentence
    scaling : a law of the speedup for each back end that was measured with several numbers of workers
    reference : the job in one thread, where the file names one
    fingerprint : of the one Graph that all of them ran
    folder : the run folder, with the Graph, the traces, ``report.json`` and ``report.html``
    """

    name: str
    fingerprint: str
    n_tasks: int
    folder: str
    rows: tuple[Row, ...]
    measurements: tuple[Measurement, ...] = ()
    differences: Mapping[str, Sequence[Difference]] = field(default_factory=dict)
    accounts: tuple[Account, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    scaling: tuple[Scaling, ...] = ()
    reference: Reference | None = None

    @property
    def ran(self) -> list[Row]:
        return [row for row in self.rows if not row.failure]

    @property
    def unequal(self) -> list[tuple[str, Difference]]:
        """What was not equal, with the case that gave it."""
        every = {**self.differences, **({_REFERENCE: self.reference.differences} if self.reference else {})}
        return [(name, d) for name, found in every.items() for d in found if not d.same]

    @property
    def dropped(self) -> int:
        """Items that failed and were left out of each run; where not all runs dropped the same, results differ."""
        return max((m.dropped for m in self.measurements), default=0)

    @property
    def disturbed(self) -> float:
        """The part of its elapsed time for which serial, which needs one core, had none; 0 where that is not known.

        Where its tasks keep more than one core busy it is not: threads of theirs wait for each other's cores.
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
        """6 for unequal results, else that of the first back end that did not run, else 1 for dropped items, else 0."""
        if self.unequal:
            return _DIFFERENT
        if self.reference is not None and self.reference.failure:
            return 1
        return next((row.exit_code or 4 for row in self.rows if row.failure), 1 if self.dropped else 0)

    @property
    def problem(self) -> str:
        """What ``exit_code`` stands for, in words; empty if it is 0."""
        if self.unequal:
            name, d = self.unequal[0]
            more = f" ({len(self.unequal) - 1} more)" if len(self.unequal) > 1 else ""
            cure = "Look for an order of calls, a clock or an unseeded random number that they depend on"
            if name == _REFERENCE:
                cure = "It must do the whole job that the file does: look which of the two is wrong"
            return f"{name} gave other results than serial: {d.what}: {d.message}{more}. {cure}"
        if self.reference is not None and self.reference.failure:
            return f"the reference {self.reference.call} did not run: {self.reference.failure}"
        failed = [row for row in self.rows if row.failure]
        if not failed and self.dropped:
            return f"{self._dropped()} (on_error: drop). pipeline run names them"
        if not failed:
            return ""
        names = ", ".join(row.label for row in failed)
        return f"{names} did not run: {failed[0].failure}. The logs are in {self.folder}"

    @property
    def equality(self) -> str:
        """How equal the results are, over all back ends, in a few words."""
        if self.unequal:
            names = ", ".join(dict.fromkeys(name for name, _ in self.unequal))
            return f"RESULTS DIFFER: {names}"
        found = [d for each in self.differences.values() for d in each]
        if not found:
            return "results were not compared: nothing else ran"
        if all(d.bitwise for d in found):
            return "results equal bit by bit"
        worst = max(found, key=lambda d: d.largest)
        return f"results equal within {worst.largest:.1g} (relative; {worst.tolerance:.1g} is allowed)"

    @property
    def verdict(self) -> list[str]:
        """The lines to read if no others are read."""
        return [*self._failures(), *self._doubts(), f"{self._fastest()}; {self.equality}"]

    @property
    def footnotes(self) -> list[str]:
        """What the numbers mean."""
        n = min((row.n_rounds for row in self.ran), default=0)
        confidence = min((row.elapsed.confidence for row in self.ran if row.elapsed), default=0.0)
        lines = [f"medians of {count_text(n, 'round')}; [where the median lies, with {confidence:.0%} confidence]"]
        if n < 3:
            lines = [f"{count_text(n, 'round')}: too few to show a difference; for that: --repeat 5"]
        alike = [row.label for row in self.ran if not row.reference and not row.differs]
        if alike and n > 2:
            lines.append(f"no difference to serial is shown (intervals overlap): {', '.join(alike)}")
        return [*lines, f"graph {self.fingerprint}; report.html, numbers and traces: {self.folder}"]

    def _failures(self) -> list[str]:
        return [f"{row.label} did not run: {row.failure}" for row in self.rows if row.failure]

    def _dropped(self) -> str:
        return f"{count_text(self.dropped, 'item was', 'items were')} dropped, since they failed"

    def _doubts(self) -> list[str]:
        """What these times are without, and what else is in them."""
        found = []
        if self.dropped:
            found.append(f"{self._dropped()}: these times are without what needs them")
        if self.disturbed >= _DISTURBED:
            found.append(f"something else used this machine: serial was ready to run and had no core for "
                         f"{self.disturbed:.0%} of its time")  # fmt: skip
        return found

    def _fastest(self) -> str:
        rows = [row for row in self.ran if row.elapsed is not None]
        best = min(rows, key=lambda row: row.elapsed.value)  # type: ignore[union-attr]
        if best.reference or best.speedup is None or best.elapsed is None:
            alike = [row.label for row in rows if not row.reference and not row.differs]
            return f"fastest: serial (no difference shown to {', '.join(alike)})" if alike else "fastest: serial"
        many = f"on {count_text(best.workers, 'worker')}"
        text = f"fastest: {best.backend}, {ratio_text(best.speedup.value)} of serial {many}"
        if not best.differs:
            return f"{text} (no difference to serial shown)"
        ties = [r.label for r in rows if r is not best and r.elapsed and not differ(r.elapsed, best.elapsed)]
        return f"{text} (no difference shown to {', '.join(ties)})" if ties else text

    def to_frame(self) -> pd.DataFrame:
        """One row a back end: seconds, bytes and ratios; intervals as ``…_low`` and ``…_high``."""
        import pandas as pd

        return pd.DataFrame([_flat(row) for row in self.rows]).set_index("label")

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON; nan is None."""
        everything = asdict(replace(self, accounts=())) | {
            "accounts": [account.to_dict() for account in self.accounts],
            "exit_code": self.exit_code,
            "equality": self.equality,
            "verdict": self.verdict[-1],
            "problem": self.problem,
        }
        plain: dict[str, Any] = without_nan(everything)
        return plain

    def __repr__(self) -> str:
        lines = [f"<Comparison {self.name!r}, graph {self.fingerprint}>"]
        for row in self.rows:
            if row.failure or row.elapsed is None:
                lines.append(f"  {row.label:<10} did not run: {row.failure}")
            else:
                speedup = f"{ratio_text(row.speedup.value)}" if row.speedup else "reference"
                lines.append(
                    f"  {row.label:<10} {count_text(row.workers, 'worker'):>11} {row.elapsed.value:9.3f} s  {speedup}"
                )
        return "\n".join([*lines, f"  {self.verdict[-1]}"])

    def _repr_html_(self) -> str:
        import html

        frame = self.to_frame().drop(columns=["reference", "exit_code"])
        return f"{frame.to_html(float_format='{:.3g}'.format, na_rep='')}<p>{html.escape(self.verdict[-1])}</p>"


def equality_text(found: Sequence[Difference]) -> str:
    """How results agree, in a word or two."""
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
    """How one back end scales.

    Parameters
    ----------
    points : one a number of workers: workers, elapsed, speedup, Karp-Flatt's serial fraction (None of one worker)
    serial_fraction : Amdahl's, by least squares
    largest_speedup : what Amdahl's law allows with any number of workers; None: no bound
    contention, coherency : of the universal scalability law, where there are six points or more
    curve : workers, speedup, the law it is of, and whether it lies beyond what was measured
    """

    backend: str
    points: tuple[Mapping[str, Any], ...]
    serial_fraction: float
    largest_speedup: float | None
    contention: float | None
    coherency: float | None
    curve: tuple[Mapping[str, Any], ...]
