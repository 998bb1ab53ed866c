"""``python -m tests.causes [CASE…] [--rounds N] [--backends A,B]``: the table of causes, on a quiet machine.

For each case and back end: what `compare` says, whether it is right, the seconds before and after the advice. The
advice is tried by `compare` itself where it is a setting; another back end was measured beside it; a change by hand is
measured with the file as it is after the change.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.config.loader import load
from pipeline.experiments.comparison.advice import Reason
from pipeline.experiments.comparison.compare import compare
from pipeline.experiments.comparison.result import Comparison
from pipeline.report.compare_reason_text import change_text
from tests.causes import functions
from tests.causes.cases import BACKENDS, CASES, Case

_FASTER = 0.95


def main() -> None:
    """Run the cases and print the table and its sums."""
    options = _options()
    folder = Path(options.out or tempfile.mkdtemp())
    began, rows = time.perf_counter(), []
    for case in CASES:
        if options.cases and case.name not in options.cases:
            continue
        if time.perf_counter() - began > options.seconds:
            print(f"no time left for {case.name} and what follows", flush=True)
            break
        for row in _rows(case, folder / case.name, options.rounds, options.backends.split(",")):
            print(row[0], flush=True)
            rows.append(row)
    right, advised, faster = (sum(row[i] for row in rows) for i in (1, 2, 3))
    print(f"right {right} of {len(rows)}; advice that was measured {advised}, of which faster {faster}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.causes", description="the table of causes")
    parser.add_argument("cases", nargs="*", help="names of cases; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--seconds", type=float, default=3600.0, help="begin no case after so many seconds")
    parser.add_argument("--out", help="folder that keeps the files and the run folders")
    return parser.parse_args()


def _rows(case: Case, folder: Path, rounds: int, backends: Sequence[str]) -> Iterator[tuple[str, bool, bool, bool]]:
    """Yield a line of the table for each back end, whether it is right, has measured advice, and this was faster."""
    found = _compared(case.file, folder, backends, rounds)
    after = _compared(case.changed_file, folder / "changed", backends, 1) if case.better else None
    for label, reason in found.causes.items():
        said = ", ".join(reason.cause.steps) or "-"
        is_right = case.right(label, reason.cause.step, reason.cause.kind)
        seconds = _after(reason, found, after)
        is_faster = seconds is not None and seconds <= _FASTER * reason.elapsed
        then = "-" if seconds is None else f"{seconds:.2f}"
        advice = change_text(reason.advice)
        line = (f"{case.name:20} {label:9} {reason.cause.kind:14} {said[:24]:24} {'yes' if is_right else 'NO':3} "
                f"{reason.elapsed:6.2f} {then:>6}  {advice[:60]}")  # fmt: skip
        yield line, is_right, seconds is not None, is_faster


def _compared(text: str, folder: Path, backends: Sequence[str], rounds: int) -> Comparison:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(functions.__file__, folder)
    (folder / "case.yaml").write_text(text)
    return compare(load(folder / "case.yaml"), backends=backends, workers=2, repeat=rounds, runs=folder / "runs")


def _after(reason: Reason, found: Comparison, changed: Comparison | None) -> float | None:
    """Return the measured seconds after the advice for one back end; None if it has none, or it was not measured."""
    advice = reason.advice
    if advice.kind in ("none", "explain", "measure again", "see messages"):
        return None
    if advice.measured:
        return advice.after
    for one in found.recommendations:
        if one.reason is reason and one.tried is not None and not one.tried.failure:
            return one.tried.elapsed
    if changed is not None and not advice.is_setting:
        return next((row.elapsed.value for row in changed.rows if row.label == reason.label and row.elapsed), None)
    return None


if __name__ == "__main__":
    main()
