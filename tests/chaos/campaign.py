"""Disturb many runs, two at a time, and print a table: ``make chaos N=300``, or ``--seed S`` to repeat one."""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import signal
import tempfile
import traceback
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from chaos.cases import Case
from chaos.disturbance import disturb
from chaos.judge import Verdict, judge

__all__ = ["main", "run_one", "table"]

_HEAD = ("back end", "signal", "target", "runs", "held", "changed nothing", "bad", "too late", "lines", "gone s", "max")


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("n", type=int, nargs="?", help="number of runs, of as many seeds  [30, with --seed 1]")
    parser.add_argument("--seed", type=int, help="the first seed  [0]")
    options = parser.parse_args()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell; the runs would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    first, n = options.seed or 0, options.n or (30 if options.seed is None else 1)
    place = tempfile.mkdtemp(prefix="chaos-", dir="/tmp")  # short: there are sockets below it
    done = []
    with multiprocessing.get_context("spawn").Pool(min(2, n)) as pool:
        for case, verdict, told in pool.imap_unordered(run_one, [(Case.of(first + i), place) for i in range(n)]):
            print(told, flush=True)
            done.append((case, verdict))
        pool.close()
        pool.join()
    print(f"\n{table(done)}")
    bad = sorted(case.seed for case, verdict in done if verdict is not None and verdict.outcome == "bad")
    print(f"bad seeds: {', '.join(map(str, bad)) or 'none'}")
    return bool(bad)


def run_one(given: tuple[Case, str]) -> tuple[Case, Verdict | None, str]:
    """Disturb one run and return what to print; the folder of a bad one is kept."""
    case, folder = given
    place = Path(folder, str(case.seed))
    try:
        verdict = disturb(case, place, judge)
    except Exception:  # noqa: BLE001  (a fault of the harness: the other runs go on)
        verdict = Verdict("unknown", 0, None, [("harness", traceback.format_exc())])
    if verdict is None or verdict.outcome != "bad":
        shutil.rmtree(place, ignore_errors=True)
        return case, verdict, f"{case}: {verdict.outcome if verdict else 'too late'}"
    faults = "".join(f"\n    {kind}: {text}" for kind, text in verdict.faults)
    return case, verdict, f"{case}: bad, kept in {place}{faults}"


def table(runs: Iterable[tuple[Case, Verdict | None]]) -> str:
    """Return a row for each back end, signal and target, and a last one for all.

    ``lines`` is the most that one run printed; ``gone s`` the median of the seconds until its last process was gone.
    """
    groups: dict[tuple[str, ...], list[Verdict | None]] = defaultdict(list)
    for case, verdict in runs:
        groups[case.backend, case.signal_name, case.target].append(verdict)
        groups["~ all", "", ""].append(verdict)
    rows = [_HEAD, *(_row(key, groups[key]) for key in sorted(groups))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = [str.ljust] * 3 + [str.rjust] * (len(_HEAD) - 3)
    return "\n".join("  ".join(fit(cell, w) for fit, cell, w in zip(pad, row, widths, strict=True)) for row in rows)


def _row(key: tuple[str, ...], group: list[Verdict | None]) -> tuple[str, ...]:
    judged = [verdict for verdict in group if verdict is not None]
    outcomes = [verdict.outcome for verdict in judged]
    gone = [verdict.gone for verdict in judged if verdict.gone is not None]
    counts = [len(group), *map(outcomes.count, _HEAD[4:7]), len(group) - len(judged)]
    lines = max((verdict.n_lines for verdict in judged), default=0)
    return (*key, *map(str, [*counts, lines]), *((f"{median(gone):.2f}", f"{max(gone):.2f}") if gone else ("", "")))
