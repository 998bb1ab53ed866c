"""What a comparison found: rows of medians with intervals, and a verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.analysis.statistics import (
    Interval,
    differ,
    median,
    median_interval,
    parallel_efficiency,
    ratio_interval,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Difference", "Measurement", "Row", "compared"]

_DIFFERENT = 6


@dataclass(frozen=True)
class Measurement:
    """One measured run, in a fresh process: seconds and bytes.

    Parameters
    ----------
    elapsed : from the first submit to the last output verified, workers warm; ``verify`` is part of it
    user, system : CPU within ``elapsed``, of the process and all below it
    memory : peak of the resident memory of the process and all below it, added up (shared pages count in each)
    process : the whole life of the process, imports included
    trace : path of its Trace
    """

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
class Row:
    """One back end; medians over its rounds. ``failure`` says why it did not run, if it did not."""

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
    differences : back end -> what was compared, over all rounds
    measurements : every run
    fingerprint : of the one Graph that all of them ran
    folder : the run folder, with the Graph, the traces and ``comparison.json``
    """

    name: str
    fingerprint: str
    n_tasks: int
    folder: str
    rows: tuple[Row, ...]
    measurements: tuple[Measurement, ...] = ()
    differences: Mapping[str, Sequence[Difference]] = field(default_factory=dict)

    @property
    def ran(self) -> list[Row]:
        return [row for row in self.rows if not row.failure]

    @property
    def unequal(self) -> list[tuple[str, Difference]]:
        """What was not equal, with the back end that gave it."""
        return [(name, d) for name, found in self.differences.items() for d in found if not d.same]

    @property
    def exit_code(self) -> int:
        """6 for unequal results, else that of the first back end that did not run, else 0."""
        if self.unequal:
            return _DIFFERENT
        return next((row.exit_code or 4 for row in self.rows if row.failure), 0)

    @property
    def problem(self) -> str:
        """What ``exit_code`` stands for, in words; empty if it is 0."""
        if self.unequal:
            name, d = self.unequal[0]
            more = f" ({len(self.unequal) - 1} more)" if len(self.unequal) > 1 else ""
            return (f"{name} gave other results than serial: {d.what}: {d.message}{more}. "
                    "Look for an order of calls, a clock or an unseeded random number that they depend on")  # fmt: skip
        failed = [row for row in self.rows if row.failure]
        if not failed:
            return ""
        names = ", ".join(row.backend for row in failed)
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
        return [*self._failures(), f"{self._fastest()}; {self.equality}"]

    @property
    def footnotes(self) -> list[str]:
        """What the numbers mean."""
        n = min((row.n_rounds for row in self.ran), default=0)
        confidence = min((row.elapsed.confidence for row in self.ran if row.elapsed), default=0.0)
        lines = [f"medians of {n} rounds; [where the median lies, with {confidence:.0%} confidence]"]
        if n < 3:
            lines = [f"{n} round{'s' if n > 1 else ''}: too few to show a difference; for that: --repeat 5"]
        alike = [row.backend for row in self.ran if not row.reference and not row.differs]
        if alike and n > 2:
            lines.append(f"no difference to serial is shown (intervals overlap): {', '.join(alike)}")
        return [*lines, f"graph {self.fingerprint}, traces and numbers: {self.folder}"]

    def _failures(self) -> list[str]:
        return [f"{row.backend} did not run: {row.failure}" for row in self.rows if row.failure]

    def _fastest(self) -> str:
        rows = [row for row in self.ran if row.elapsed is not None]
        best = min(rows, key=lambda row: row.elapsed.value)  # type: ignore[union-attr]
        if best.reference or best.speedup is None or best.elapsed is None:
            return "fastest: serial"
        many = f"on {best.workers} worker{'s' if best.workers != 1 else ''}"
        text = f"fastest: {best.backend}, {best.speedup.value:.2g}x of serial {many}"
        if not best.differs:
            return f"{text} (no difference to serial shown)"
        ties = [r.backend for r in rows if r is not best and r.elapsed and not differ(r.elapsed, best.elapsed)]
        return f"{text} (no difference shown to {', '.join(ties)})" if ties else text

    def to_frame(self) -> pd.DataFrame:
        """One row a back end: seconds, bytes and ratios; intervals as ``…_low`` and ``…_high``."""
        import pandas as pd

        return pd.DataFrame([_flat(row) for row in self.rows]).set_index("backend")

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON; nan is None."""
        everything = asdict(self) | {
            "exit_code": self.exit_code,
            "equality": self.equality,
            "verdict": self.verdict[-1],
            "problem": self.problem,
        }
        plain: dict[str, Any] = _without_nan(everything)
        return plain

    def __repr__(self) -> str:
        lines = [f"<Comparison {self.name!r}, graph {self.fingerprint}>"]
        for row in self.rows:
            if row.failure or row.elapsed is None:
                lines.append(f"  {row.backend:<10} did not run: {row.failure}")
            else:
                speedup = f"{row.speedup.value:.2f}x" if row.speedup else "reference"
                lines.append(f"  {row.backend:<10} {row.workers:>3} workers {row.elapsed.value:9.3f} s  {speedup}")
        return "\n".join([*lines, f"  {self.verdict[-1]}"])

    def _repr_html_(self) -> str:
        import html

        frame = self.to_frame().drop(columns=["reference", "exit_code"])
        return f"{frame.to_html(float_format='{:.3g}'.format, na_rep='')}<p>{html.escape(self.verdict[-1])}</p>"


def compared(
    measurements: Sequence[Measurement],
    *,
    backends: Sequence[str],
    workers: int,
    differences: Mapping[str, Sequence[Difference]],
    failures: Mapping[str, tuple[str, int]],
    name: str = "pipeline",
    fingerprint: str = "",
    n_tasks: int = 0,
    folder: str = "",
) -> Comparison:
    """Put measured runs together; the first of ``backends`` is the reference.

    Parameters
    ----------
    failures : back end -> why it did not run, its exit code
    """
    by_name = {b: sorted((m for m in measurements if m.backend == b), key=lambda m: m.round) for b in backends}
    reference = by_name[backends[0]]
    rows = []
    for backend in backends:
        if backend in failures:
            reason, code = failures[backend]
            rows.append(Row(backend, workers, failure=reason, exit_code=code))
        else:
            rows.append(_row(backend, by_name[backend], reference, differences.get(backend, ())))
    return Comparison(
        name=name,
        fingerprint=fingerprint,
        n_tasks=n_tasks,
        folder=folder,
        rows=tuple(rows),
        measurements=tuple(measurements),
        differences={b: tuple(found) for b, found in differences.items()},
    )


def _row(backend: str, own: list[Measurement], reference: list[Measurement], found: Sequence[Difference]) -> Row:
    is_reference = own is reference
    n_workers = own[-1].n_workers
    common = sorted({m.round for m in own} & {m.round for m in reference})
    pairs = [[next(m for m in ms if m.round == r) for r in common] for ms in (reference, own)]
    speedup = ratio_interval(*([m.elapsed for m in ms] for ms in pairs))
    elapsed = median_interval([m.elapsed for m in own])
    return Row(
        backend=backend,
        workers=n_workers,
        reference=is_reference,
        n_rounds=len(own),
        elapsed=elapsed,
        speedup=None if is_reference else speedup,
        efficiency=None if is_reference else parallel_efficiency(speedup.value, n_workers),
        speedup_all=None if is_reference else ratio_interval(*([m.everything for m in ms] for ms in pairs)),
        differs=differ(elapsed, median_interval([m.elapsed for m in reference])),
        equality="reference" if is_reference else _equality_text(found),
        user=median([m.user for m in own]),
        system=median([m.system for m in own]),
        start_up=median([m.start_up for m in own]),
        verify=median([m.verify for m in own]),
        commit=median([m.commit for m in own]),
        memory=median([m.memory for m in own]),
    )


def _equality_text(found: Sequence[Difference]) -> str:
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


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _without_nan(v) for k, v in value.items()}
    return [_without_nan(v) for v in value] if isinstance(value, (list, tuple)) else value
