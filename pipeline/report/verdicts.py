"""The sentences of a comparison: its verdict, its footnotes, what its exit code means."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Self

from pipeline.config.json_values import without_nan
from pipeline.experiments.comparison.result import REFERENCE, Comparison
from pipeline.report.reason_text import reason_text
from pipeline.trace.statistics import differ
from pipeline.units import count_text, ratio_text

__all__ = ["ComparisonReport", "equality", "footnotes", "problem", "reason_texts", "verdict"]

_DISTURBED = 0.10  # share of serial's time without a core from which the verdict mentions it


def verdict(comparison: Comparison) -> list[str]:
    """Return the lines to read if no others are read: what failed, what disturbed the times, which is fastest."""
    lines = [f"{row.label} did not run: {row.failure}" for row in comparison.rows if row.failure]
    if comparison.dropped:
        lines.append(f"{_dropped(comparison)}: these times are without what needs them")
    if comparison.disturbed >= _DISTURBED:
        lines.append(f"something else used this machine: serial was ready to run and had no core for "
                     f"{comparison.disturbed:.0%} of its time")  # fmt: skip
    return [*lines, f"{_fastest(comparison)}; {equality(comparison)}"]


def footnotes(comparison: Comparison) -> list[str]:
    """Return what the numbers mean, and where the files are."""
    ran = comparison.ran
    n = min((row.n_rounds for row in ran), default=0)
    confidence = min((row.elapsed.confidence for row in ran if row.elapsed), default=0.0)
    lines = [f"medians of {count_text(n, 'round')}; [bounds of the median, with {confidence:.0%} confidence]"]
    if n < 3:
        lines = [f"{count_text(n, 'round')}: too few to show a difference; for that: --repeat 5"]
    alike = [row.label for row in ran if not row.reference and not row.differs]
    if alike and n > 2:
        lines.append(f"no difference to serial is shown (intervals overlap): {', '.join(alike)}")
    return [*lines, f"graph {comparison.fingerprint}; report.html, numbers and traces: {comparison.folder}"]


def problem(comparison: Comparison) -> str:
    """Return what the exit code means; empty if it is 0."""
    if comparison.unequal:
        name, d = comparison.unequal[0]
        more = f" ({len(comparison.unequal) - 1} more)" if len(comparison.unequal) > 1 else ""
        advice = "Look for an order of calls, a clock or an unseeded random number that they depend on"
        if name == REFERENCE:
            advice = "It must do the whole job that the file does: find out which of the two is wrong"
        return f"{name} gave other results than serial: {d.what}: {d.message}{more}. {advice}"
    if comparison.reference is not None and comparison.reference.failure:
        return f"the reference {comparison.reference.call} did not run: {comparison.reference.failure}"
    failed = [row for row in comparison.rows if row.failure]
    if not failed and comparison.dropped:
        return f"{_dropped(comparison)} (on_error: drop). pipeline run names them"
    if not failed:
        return ""
    names = ", ".join(row.label for row in failed)
    return f"{names} did not run: {failed[0].failure}. The logs are in {comparison.folder}"


def equality(comparison: Comparison) -> str:
    """Return how far the results of all back ends are equal, in a few words."""
    if comparison.unequal:
        names = ", ".join(dict.fromkeys(name for name, _ in comparison.unequal))
        return f"RESULTS DIFFER: {names}"
    found = [d for each in comparison.differences.values() for d in each]
    if not found:
        return "results were not compared: nothing else ran"
    if all(d.bitwise for d in found):
        return "results equal bit by bit"
    worst = max(found, key=lambda d: d.largest)
    return f"results equal within {worst.largest:.1g} (relative; {worst.tolerance:.1g} is allowed)"


def reason_texts(comparison: Comparison) -> dict[str, str]:
    """Return for each case, by its label, why its speedup is not higher."""
    return {label: reason_text(reason) for label, reason in comparison.causes.items()}


def _dropped(comparison: Comparison) -> str:
    return f"{count_text(comparison.dropped, 'item was', 'items were')} dropped, since they failed"


def _fastest(comparison: Comparison) -> str:
    rows = [row for row in comparison.ran if row.elapsed is not None]
    best = min(rows, key=lambda row: row.elapsed.value)  # type: ignore[union-attr]
    if best.reference or best.speedup is None or best.elapsed is None:
        alike = [row.label for row in rows if not row.reference and not row.differs]
        return f"fastest: serial (no difference shown to {', '.join(alike)})" if alike else "fastest: serial"
    speedup = f"{ratio_text(best.speedup.value)} of serial on {count_text(best.workers, 'worker')}"
    text = f"fastest: {best.backend}, {speedup}"
    if not best.differs:
        return f"{text} (no difference to serial shown)"
    ties = [r.label for r in rows if r is not best and r.elapsed and not differ(r.elapsed, best.elapsed)]
    return f"{text} (no difference shown to {', '.join(ties)})" if ties else text


class ComparisonReport(Comparison):
    """A comparison with its sentences, as Python users get it."""

    @classmethod
    def of(cls, comparison: Comparison) -> Self:
        """Add the sentences to a comparison."""
        return cls(**vars(comparison))

    @property
    def verdict(self) -> list[str]:
        """Return the lines to read if no others are read."""
        return verdict(self)

    @property
    def footnotes(self) -> list[str]:
        """Return what the numbers mean."""
        return footnotes(self)

    @property
    def problem(self) -> str:
        """Return what ``exit_code`` means; empty if it is 0."""
        return problem(self)

    @property
    def equality(self) -> str:
        """Return how far the results are equal."""
        return equality(self)

    @property
    def reasons(self) -> Mapping[str, str]:
        """Return for each case, by its label, why its speedup is not higher."""
        return reason_texts(self)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON; nan is None."""
        everything = asdict(replace(self, accounts=(), causes={}, graph=None, config=None))
        for name in ("causes", "graph", "config"):
            del everything[name]
        everything |= {
            "accounts": [account.to_dict() for account in self.accounts],
            "reasons": self.reasons,
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
                speedup = ratio_text(row.speedup.value) if row.speedup else "reference"
                workers = count_text(row.workers, "worker")
                lines.append(f"  {row.label:<10} {workers:>11} {row.elapsed.value:9.3f} s  {speedup}")
        return "\n".join([*lines, f"  {self.verdict[-1]}"])

    def _repr_html_(self) -> str:
        frame = self.to_frame().drop(columns=["reference", "exit_code"])
        return f"{frame.to_html(float_format='{:.3g}'.format, na_rep='')}<p>{html.escape(self.verdict[-1])}</p>"
