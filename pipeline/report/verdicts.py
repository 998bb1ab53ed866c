"""The sentences of a comparison: its verdict, its footnotes, what its exit code means."""

from __future__ import annotations

import html
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Self

from pipeline.config.json_values import without_nan
from pipeline.experiments.comparison.result import REFERENCE, Comparison, Row
from pipeline.report.compare_reason_text import cause_text, change_text, reason_text, recommendation_text, tried_text
from pipeline.trace.statistics import differ
from pipeline.units import count_text, ratio_text

if TYPE_CHECKING:
    from pipeline.experiments.comparison.advice import Reason, Recommendation


__all__ = ["ComparisonReport"]

_DECIDED = 3  # rounds from which a difference can be shown
_DISTURBED = 0.10  # share of serial's time without a core from which the verdict mentions it


def _cause_dict(reason: Reason) -> dict[str, Any]:
    cause, advice = reason.cause, reason.advice
    return {
        "kind": cause.kind,
        "steps": list(cause.steps),
        "gain": cause.gain,
        "text": "" if cause.kind == "none" else cause_text(cause),
        "advice": change_text(advice),
        "predicted": advice.after,
    }


def _recommendation_dict(one: Recommendation | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "text": recommendation_text(one),
        "change": change_text(one.advice),
        "steps": list(one.reason.cause.steps),
        "cause": one.reason.cause.kind,
        "backend": one.backend,
        "workers": one.n_workers,
        "best": one.best,
        "predicted": one.advice.after,
        "tried": asdict(one.tried) if one.tried is not None else None,
    }


class ComparisonReport(Comparison):
    """A comparison with its sentences, as Python users get it."""

    @classmethod
    def of(cls, comparison: Comparison) -> Self:
        """Add the sentences to a comparison."""
        return cls(**vars(comparison))

    @property
    def verdict(self) -> list[str]:
        """Return the lines to read if no others are read: what failed, what disturbed the times, which is fastest."""
        lines = [f"{row.label} did not run: {row.failure}" for row in self.rows if row.failure]
        if self.dropped:
            lines.append(f"{self._dropped()}: these times are without what needs them")
        if self.disturbed >= _DISTURBED:
            lines.append(f"something else used this machine: serial was ready to run and had no core for "
                         f"{self.disturbed:.0%} of its time")  # fmt: skip
        lines += [tried_text(one) for one in self.recommendations if one.helps is False]
        return [*lines, f"{self._fastest()}; {self.equality}"]

    @property
    def recommended(self) -> str:
        """Return what to change first, in a sentence; empty for nothing."""
        return recommendation_text(self.recommendation) if self.recommendation is not None else ""

    @property
    def footnotes(self) -> list[str]:
        """Return what the numbers mean, and where the files are."""
        ran = self.ran
        n = min((row.n_rounds for row in ran), default=0)
        confidence = min((row.elapsed.confidence for row in ran if row.elapsed), default=0.0)
        lines = [f"medians of {count_text(n, 'round')}; [bounds of the median, with {confidence:.0%} confidence]"]
        if n < _DECIDED:
            lines = [f"{count_text(n, 'round')}: too few to show a difference; for that: --repeat 5"]
        alike = [row.label for row in ran if not row.reference and self._alike(row, ran[0])]
        if alike and n >= _DECIDED:
            lines.append(f"no difference to serial is shown (intervals overlap): {', '.join(alike)}")
        return [*lines, f"graph {self.fingerprint}; report.html, numbers and traces: {self.folder}"]

    @property
    def problem(self) -> str:
        """Return what the exit code means; empty if it is 0."""
        if self.unequal:
            name, d = self.unequal[0]
            more = f" ({len(self.unequal) - 1} more)" if len(self.unequal) > 1 else ""
            advice = "Look for an order of calls, a clock or an unseeded random number that they depend on"
            if name == REFERENCE:
                advice = "It must do the whole job that the file does: find out which of the two is wrong"
            return f"{name} gave other results than serial: {d.what}: {d.message}{more}. {advice}"
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
        """Return how far the results of all back ends are equal, in a few words."""
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
    def reasons(self) -> dict[str, str]:
        """Return for each case, by its label, why its speedup is not higher."""
        return {label: reason_text(reason) for label, reason in self.causes.items()}

    def _dropped(self) -> str:
        return f"{count_text(self.dropped, 'item was', 'items were')} dropped, since they failed"

    def _fastest(self) -> str:
        rows = [row for row in self.ran if row.elapsed is not None]
        best = min(rows, key=lambda row: row.elapsed.value)  # type: ignore[union-attr]
        speedup = ""
        if not best.reference and best.speedup is not None:
            speedup = f", {ratio_text(best.speedup.value)} of serial on {count_text(best.workers, 'worker')}"
        rounds = min(row.n_rounds for row in rows)
        if len(rows) > 1 and rounds < _DECIDED:
            return f"undecided after {count_text(rounds, 'round')}: {best.backend} was fastest{speedup}"
        ties = [row.label for row in rows if row is not best and self._alike(row, best)]
        text = f"fastest: {best.backend}{speedup}"
        return f"{text} (no difference shown to {', '.join(ties)})" if ties else text

    @staticmethod
    def _alike(row: Row, best: Row) -> bool:
        """Return whether a case may be as fast as the fastest: their times overlap; of serial's, the ratios reach 1."""
        if row.elapsed is None or best.elapsed is None or differ(row.elapsed, best.elapsed):
            return False
        ratio = row.speedup if best.reference else best.speedup if row.reference else None
        return ratio is None or not ratio.known or ratio.low <= 1 <= ratio.high

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON; nan is None."""
        everything = asdict(replace(self, accounts=(), causes={}, recommendations=(), graph=None, config=None))
        for name in ("causes", "recommendations", "graph", "config"):
            del everything[name]
        everything |= {
            "accounts": [account.to_dict() for account in self.accounts],
            "reasons": self.reasons,
            "causes": {label: _cause_dict(reason) for label, reason in self.causes.items()},
            "recommendation": _recommendation_dict(self.recommendation),
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
