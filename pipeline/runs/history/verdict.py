"""Whether one run is faster than another, or why that is unknown.

There is a verdict only for the same work on the same inputs and machine, by the same back end with as many workers, if
both were repeated and their intervals do not overlap. Changed code and versions do not prevent it: their effect is what
users want to see. They also change the Graph's hash, so graphs with different hashes are the same work if the resolved
file and the graph of the steps are the same, and code or versions differ.

The rounds of two comparisons are not made in turns, so the times also differ by what else the machine did: two
comparisons of the same thing on a busy machine gave intervals far apart. So there is no verdict if nothing that is
recorded has changed, either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.backends.registry import base_name
from pipeline.runs.history.read import Case, RunFolder, step_seconds
from pipeline.runs.history.result import CaseTimes, Judged, StepTimes
from pipeline.runs.history.schema import Unreadable
from pipeline.trace.statistics import differ, median_interval, ratio_interval
from pipeline.units import ratio_text

if TYPE_CHECKING:
    from pipeline.runs.history.result import Change, Difference


__all__ = ["CaseTimes", "Judged", "StepTimes", "case_times", "judged"]

_FEWEST = 3
_NAMED = 3
_SHORTEST = 1e-9  # seconds; less counts as no time


# ---------------------------------------------------------------------------------------------------------------------
# Times
# ---------------------------------------------------------------------------------------------------------------------


def case_times(a: RunFolder, b: RunFolder, notes: list[str]) -> Iterator[CaseTimes]:
    """Yield the times of each case that ran in both, in the order of ``a``; what can't be read goes to ``notes``."""
    others = {(case.backend, case.workers): case for case in b.cases if case.elapsed}
    for case in a.cases:
        other = others.get((case.backend, case.workers))
        if case.elapsed and other is not None:
            old, new = median_interval(case.elapsed), median_interval(other.elapsed)
            timed = min(*case.elapsed, *other.elapsed) > _SHORTEST
            speedup = ratio_interval(case.elapsed, other.elapsed, paired=False) if timed else None
            steps = tuple(_steps(_by_step(case, "A", notes), _by_step(other, "B", notes)))
            yield CaseTimes(other.label, case.backend, case.workers, old, new, speedup, differ(old, new), steps)


def _by_step(case: Case, side: str, notes: list[str]) -> list[dict[str, float]]:
    found, errors = [], []
    for trace in case.traces:
        try:
            found.append(step_seconds(trace))
        except Unreadable as error:
            errors.append(str(error))
    if errors:
        more = f" ({len(errors)} of {len(case.traces)} traces)" if len(case.traces) > 1 else ""
        notes.append(f"{side}: times by step of {case.label}: {errors[0]}{more}")
    return found


def _steps(old: Sequence[dict[str, float]], new: Sequence[dict[str, float]]) -> Iterator[StepTimes]:
    if not old or not new:
        return
    for step in dict.fromkeys(name for times in (*old, *new) for name in times):
        before, after = ([times[step] for times in side if step in times] for side in (old, new))
        intervals = [median_interval(values) if values else None for values in (before, after)]
        first, last = intervals
        yield StepTimes(step, first, last, first is not None and last is not None and differ(first, last))


# ---------------------------------------------------------------------------------------------------------------------
# The verdict
# ---------------------------------------------------------------------------------------------------------------------


def judged(found: Difference) -> Judged:
    """Return the verdict on the second of two run folders."""
    if found.a.folder.resolve() == found.b.folder.resolve():
        same = "both are the same run"
        return Judged(f"verdict withheld: {same}", (same,))
    withheld = [*_states(found), *_circumstances(found)]
    if not found.times and found.a.ran and found.b.ran:
        withheld.append(f"back end or workers differ: A has {_cases(found.a)}; B has {_cases(found.b)}")
    if not withheld:
        alone = [side for side, run in (("A", found.a), ("B", found.b)) if _most_rounds(run) == 1]
        if len(alone) == 2:
            withheld.append("one run each has no spread; use compare")
        elif alone:
            withheld.append(f"{alone[0]} is one run, which has no spread; use compare")
    if withheld:
        return Judged(f"verdict withheld: {'; '.join(withheld)}", tuple(withheld))
    return _by_case(found)


def _by_case(found: Difference) -> Judged:
    by_word: dict[str, list[str]] = {"faster": [], "slower": []}
    overlapping, few, elsewhere = [], [], []
    for times in found.times:
        ratio = times.speedup
        if base_name(times.backend) == "dask" and (_elsewhere(found.a) or _elsewhere(found.b)):
            elsewhere.append(times.label)
        elif min(times.old.n, times.new.n) < _FEWEST or ratio is None:
            few.append(times.label)
        elif not times.differs:
            overlapping.append(times.label)
        else:
            by_word["faster" if ratio.value > 1 else "slower"].append(f"{times.label} {ratio_text(ratio)}")
    reasons = []
    if overlapping:
        reasons.append(f"the intervals of {', '.join(overlapping)} overlap")
    if few:
        reasons.append(f"fewer than {_FEWEST} rounds of {', '.join(few)} show no difference; compare --repeat 5")
    if elsewhere:
        reasons.append(f"the machines of the cluster of {', '.join(elsewhere)} are not recorded")
    pieces = [f"{word}: {', '.join(cases)}" for word, cases in by_word.items() if cases]
    if pieces and found.nothing_changed:
        reasons.insert(0, f"nothing that is recorded has changed, so it is chance, or the machine had other work "
                          f"({'; '.join(pieces)})")  # fmt: skip
        pieces = []
    if not pieces:
        return Judged(f"verdict withheld: {'; '.join(reasons)}", tuple(reasons))
    text = f"B is {'; '.join(pieces)}"
    return Judged(text + (f"; withheld: {'; '.join(reasons)}" if reasons else ""), tuple(reasons))


def _states(found: Difference) -> Iterator[str]:
    """Yield why there is nothing to compare."""
    for side, run in (("A", found.a), ("B", found.b)):
        if run.exit_code is None:
            yield f"{side} has not ended"
        elif not run.ran:
            yield f"{side} failed"


def _circumstances(found: Difference) -> Iterator[str]:
    """Yield why the times can't be compared."""
    lacking = [about for about in ("inputs", "machine", "graph") if about in found.unknown]
    if lacking:
        by_reason: dict[str, list[str]] = {}
        for about in lacking:
            by_reason.setdefault(found.unknown[about], []).append(about)
        yield from (f"{' and '.join(abouts)} {reason}" for reason, abouts in by_reason.items())
    inputs = found.changes["inputs"]
    sure = [change for change in inputs if change.kind != "unsure"]
    if sure:
        yield f"the inputs differ ({_named(sure)})"
    elif inputs:
        yield f"the inputs may differ ({_named(inputs)}: not hashed as a whole)"
    if any(change.path == "machine" for change in found.changes["machine"]):
        yield "the machines differ"
    if found.a.reused != found.b.reused:
        sides = " and ".join(side for side, run in (("A", found.a), ("B", found.b)) if run.reused)
        yield f"{sides} did not run all steps again (run with --force)"
    if found.changes["graph"] and not _same_work(found):
        yield "the graphs differ, so different work was timed"


def _same_work(found: Difference) -> bool:
    """Return whether graphs with different hashes do the same work with other code or versions."""
    if "config" in found.unknown or found.changes["config"]:
        return False
    same_shape = found.a.shape is not None and found.a.shape == found.b.shape and found.a.n_tasks == found.b.n_tasks
    return same_shape and bool(found.changes["code"] or found.changes["versions"])


def _elsewhere(run: RunFolder) -> bool:
    """Return whether the file names a cluster that may use other machines."""
    section = re.search(r"^cluster:.*(?:\n .*)*", run.config or "", re.MULTILINE)
    return section is not None and re.search(r"\b(address|class): ", section[0]) is not None


def _named(changes: Sequence[Change]) -> str:
    names = [change.path if change.kind == "unsure" else f"{change.path} {change.kind}" for change in changes]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _cases(run: RunFolder) -> str:
    return ", ".join(f"{case.backend} on {case.workers}" for case in run.cases if case.elapsed)


def _most_rounds(run: RunFolder) -> int:
    return max((len(case.elapsed) for case in run.cases), default=0)
