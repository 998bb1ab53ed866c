"""The sentences of a comparison: its verdict, its footnotes, what its exit code means."""

from __future__ import annotations

import html
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipeline.config.html_table import html_table
from pipeline.config.json_values import without_nan
from pipeline.experiments.comparison.advice import LEAST_SAVED
from pipeline.experiments.comparison.result import REFERENCE, Comparison, JudgedClaim, Row
from pipeline.report.compare_reason_text import (
    cause_text,
    change_text,
    reason_text,
    recommendation_text,
    tried_text,
    use_text,
)
from pipeline.report.text_tables import Sentence
from pipeline.trace.statistics import differ
from pipeline.units import bytes_text, count_text, duration_text, interval_text, ratio_text

if TYPE_CHECKING:
    from pipeline.experiments.comparison.advice import Reason, Recommendation


__all__ = ["ComparisonReport", "measured_text"]

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
        "text": str(recommendation_text(one)),
        "change": change_text(one.advice),
        "steps": list(one.reason.cause.steps),
        "cause": one.reason.cause.kind,
        "backend": one.backend,
        "workers": one.n_workers,
        "best": one.best,
        "predicted": one.advice.after,
        "tried": asdict(one.tried) if one.tried is not None else None,
    }


def measured_text(claim: JudgedClaim) -> str:
    """Return what was measured for a claim, and what it must be."""
    if claim.measured is None:
        return f"{claim.what} must be {claim.bound}"
    value = claim.measured
    shown = {"CPU time": duration_text, "start-up": duration_text, "time": duration_text, "memory": bytes_text}
    unit = next((text for name, text in shown.items() if claim.what.startswith(name) and " / " not in claim.what), None)
    if unit is None:
        return f"{claim.what}: {interval_text(value)}, claimed {claim.bound}"
    return f"{claim.what}: {unit(value.value)}, claimed {claim.bound}"


def _with_start(row: Row) -> float:
    """Return the seconds of a row with the start of its workers and the commit."""
    assert row.elapsed is not None, "it ran"
    return row.elapsed.value + sum(x for x in (row.start_up, row.commit) if x == x)


def _use(row: Row) -> str:
    return use_text(row.backend, row.workers if row.label != row.backend else 0)


class ComparisonReport(Comparison):
    """A comparison with its sentences, as Python users get it."""

    @classmethod
    def of(cls, comparison: Comparison) -> Self:
        """Add the sentences to a comparison."""
        return cls(**vars(comparison))

    @property
    def verdict(self) -> list[str]:
        """Return the result in lines: what limits it, then, as the last line, :attr:`answer`."""
        return [*map(str, self.warnings), self.answer]

    @property
    def answer(self) -> str:
        """Return the line to read if no other is read: which is fastest, and whether the results are equal."""
        return f"{self._fastest()}; {self.equality}"

    @property
    def advice(self) -> Sentence:
        """Return the one thing to do: about results that differ, a change of the file, or which back end to use."""
        if self.unequal:
            name, d = self.unequal[0]
            return Sentence(f"Find out why {name} gives other results", f"{d.what}: {d.message}")
        one = self.recommendation
        if one is not None and (one.advice.is_setting or not self._is_disturbed):
            return recommendation_text(one)
        if self._is_disturbed:  # nobody rewrites a function for what other programs may have done
            return self._quieter()
        n = self._n_rounds
        if n < _DECIDED and len(self.ran) > 1:
            return Sentence("Measure more rounds: `--repeat 5`", f"{count_text(n, 'round')} can't show a difference")
        return self._use()

    @property
    def recommended(self) -> Sentence | None:
        """Return what to change first; None for nothing."""
        return recommendation_text(self.recommendation) if self.recommendation is not None else None

    @property
    def warnings(self) -> list[Sentence]:
        """Return what limits the result: back ends that failed, dropped items, a busy machine, changes without use."""
        lines = [Sentence(f"Read why {row.label} did not run", row.failure) for row in self.rows if row.failure]
        if self.dropped:
            why = f"{self._dropped()}, so these times are without what needs them"
            lines.append(Sentence("Find out with `pipeline run` which items fail", why))
        if self._is_disturbed and self.advice != self._quieter():
            lines.append(self._quieter())
        lines += self._sooner()
        return lines + [tried_text(one) for one in self.recommendations if one.helps is False]

    @property
    def claim_lines(self) -> list[str]:
        """Return for each claim of the file whether it is true on this machine."""
        return [f"{one.claim}: {one.verdict} ({measured_text(one)})" for one in self.claims]

    @property
    def footnotes(self) -> list[str]:
        """Return what the numbers mean, and where the files are."""
        ran, n = self.ran, self._n_rounds
        confidence = min((row.elapsed.confidence for row in ran if row.elapsed), default=0.0)
        bounds = f"in brackets the bounds of the median, with {confidence:.0%} confidence"
        lines = [f"Medians of {count_text(n, 'round')}; {bounds}."]
        if n < _DECIDED:
            lines = [f"{count_text(n, 'round')}: too few to show a difference; measure more with --repeat 5."]
        alike = [row.label for row in ran if not row.reference and self._alike(row, ran[0])]
        if alike and n >= _DECIDED:
            lines.append(f"Not measurably different from serial: {', '.join(alike)}.")
        return lines

    @property
    def place(self) -> str:
        """Return where the report is, relative to the current folder if it is below that."""
        path = Path(self.folder)
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        return f"All tables and a timeline: {path / 'report.html'}"

    @property
    def problem(self) -> str:
        """Return what the exit code means; empty if it is 0."""
        if self.interrupted:
            n = self._n_rounds
            return (
                f"ended by {self.interrupted_by} after {count_text(n, 'round')}; this is what was measured until then"
            )
        if self.unequal:
            name, d = self.unequal[0]
            more = f" ({len(self.unequal) - 1} more)" if len(self.unequal) > 1 else ""
            advice = "They may depend on the order of calls, a clock, or a random number without a seed"
            if name == REFERENCE:
                advice = "It must do the whole job of the file: find out which of the two is wrong"
            return f"{name} gave other results than serial: {d.what}: {d.message}{more}. {advice}"
        if self.reference is not None and self.reference.failure:
            return f"the reference {self.reference.call} did not run: {self.reference.failure}"
        failed = [row for row in self.rows if row.failure]
        if not failed and self.dropped:
            return f"{self._dropped()} (on_error: drop). Run the file with pipeline run to see which"
        if not failed:
            return ""
        names = ", ".join(row.label for row in failed)
        return f"{names} did not run: {failed[0].failure}. Read the logs in {self.folder}"

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
    def reasons(self) -> dict[str, Sentence]:
        """Return for each case, by its label, what to change, and why its speedup is not higher."""
        return {label: reason_text(reason) for label, reason in self.causes.items()}

    def _dropped(self) -> str:
        return f"{count_text(self.dropped, 'item was', 'items were')} dropped, since they failed"

    @property
    def _best(self) -> Row:
        """The row with the least elapsed time."""
        return min((row for row in self.ran if row.elapsed is not None), key=lambda row: row.elapsed.value)  # type: ignore[union-attr]

    @property
    def _n_rounds(self) -> int:
        """The rounds that all cases which ran have."""
        return min((row.n_rounds for row in self.ran), default=0)

    @property
    def _is_disturbed(self) -> bool:
        return self.disturbed >= _DISTURBED

    def _quieter(self) -> Sentence:
        why = f"other programs used it: serial was ready to run and had no core for {self.disturbed:.0%} of its time"
        return Sentence("Measure again when the machine does nothing else", why)

    def _fastest(self) -> str:
        best, speedup = self._best, ""
        if not best.reference and best.speedup is not None:
            speedup = f", {ratio_text(best.speedup.value)} as fast as serial on {count_text(best.workers, 'worker')}"
        if len(self.ran) > 1 and self._n_rounds < _DECIDED:
            return f"Undecided after {count_text(self._n_rounds, 'round')}: {best.backend} was fastest{speedup}"
        ties = self._ties
        if self.rows[0].label in ties:
            return f"No back end is measurably faster than serial (fastest: {best.backend}{speedup})"
        text = f"Fastest: {best.backend}{speedup}"
        return f"{text} (not measurably slower: {', '.join(ties)})" if ties else text

    @property
    def _ties(self) -> list[str]:
        """The labels of the cases that may be as fast as the fastest."""
        best = self._best
        return [row.label for row in self.ran if row.elapsed is not None and row is not best and self._alike(row, best)]

    def _sooner(self) -> list[Sentence]:
        """Return which back end ends earlier, as it is, than the recommended one with its change and its start-up."""
        one = self.recommendation
        advised = next((row for row in self.ran if one is not None and row.backend == one.backend), None)
        if one is None or advised is None or advised.elapsed is None or self.unequal:
            return []
        after = one.tried.elapsed if one.tried is not None else one.advice.after or advised.elapsed.value
        changed = after + _with_start(advised) - advised.elapsed.value
        first = min((row for row in self.ran if row.elapsed is not None), key=_with_start)
        if _with_start(first) >= (1 - LEAST_SAVED) * changed:
            return []
        why = (f"with start-up and commit it takes {duration_text(_with_start(first))} as the file is, and "
               f"{advised.label} {duration_text(changed)} after this change")  # fmt: skip
        return [Sentence(f"For a single run {_use(first)[0].lower()}{_use(first)[1:]}", why)]

    def _use(self) -> Sentence:
        """Return which back end to use: the fastest, or one that ends earlier with the start of its workers."""
        best = self._best
        first = min((row for row in self.ran if row.elapsed is not None), key=_with_start)
        if _with_start(first) < (1 - LEAST_SAVED) * _with_start(best):
            return Sentence(_use(first), f"with start-up and commit it takes {duration_text(_with_start(first))}, and "
                            f"{best.label} {duration_text(_with_start(best))}")  # fmt: skip
        if best.reference or self.rows[0].label in self._ties:
            return Sentence(_use(self.rows[0]), "no other back end is measurably faster")
        return Sentence(_use(best), "no change of the file was found that should save a twentieth of its time")

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
            "reasons": {label: str(reason) for label, reason in self.reasons.items()},
            "causes": {label: _cause_dict(reason) for label, reason in self.causes.items()},
            "recommendation": _recommendation_dict(self.recommendation),
            "exit_code": self.exit_code,
            "equality": self.equality,
            "verdict": self.answer,
            "advice": self.advice._asdict(),
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
        return "\n".join([*lines, f"  {self.answer}"])

    def _repr_html_(self) -> str:
        columns = ("back end", "workers", "start-up", "elapsed s", "speedup", "efficiency", "results")
        table = html_table(columns, [_cells(row) for row in self.rows], numbers=columns[1:6])
        lines = [f"<b>{html.escape(one.do)}.</b> {html.escape(one.rest)}" for one in (self.advice, *self.warnings)]
        below = [*self.footnotes, *self.claim_lines, self.place]
        about = f"<p><b>{html.escape(self.answer)}</b></p><p>{'<br>'.join(lines)}</p>"
        return f"{about}{table}<p>{'<br>'.join(map(html.escape, below))}</p>"


def _cells(row: Row) -> tuple[str, ...]:
    """Return a row of the table of a notebook."""
    if row.failure or row.elapsed is None:
        return row.backend, str(row.workers), "", "", "", "", f"did not run: {row.failure}"
    speedup = ratio_text(row.speedup) if row.speedup is not None else ""
    efficiency = f"{row.efficiency:.0%}" if row.efficiency is not None else ""
    if row.reference:
        return (
            row.backend,
            str(row.workers),
            duration_text(row.start_up),
            interval_text(row.elapsed),
            "1",
            "",
            "reference",
        )
    times = duration_text(row.start_up), interval_text(row.elapsed)
    return row.backend, str(row.workers), *times, speedup, efficiency, row.equality
