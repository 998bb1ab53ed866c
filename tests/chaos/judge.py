"""What a disturbed run must hold to: its exit code, its lines, what it leaves, and what is in the outputs."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dask_tasks import left_on
from distributed import Client

import pipeline
from chaos.cases import Case
from chaos.disturbance import Ended
from chaos.pipelines import digests, prepared
from chaos.processes import Cluster, wait
from pipeline.outputs.commit import OutputTransaction
from pipeline.worker.temp_folders import Folder

__all__ = ["KINDS", "Verdict", "judge", "left_on_cluster"]

KINDS = ("hung", "exit", "lines", "traceback", "process", "segment", "torn", "temp", "rerun", "staging", "cluster")
"""The kinds of faults."""

CLUSTER_LIMIT = 20.0  # seconds for a scheduler to forget a client
_MOST_LINES = 5
_PROGRESS = re.compile(r"\s+[\d.]+ (µs|ms|s|min|h)\b.*")
_PLACE = {"out", "runs", "tmp", "stdout", "stderr", "events", "events.tried", "cluster", "cluster.log"}


@dataclass
class Verdict:
    """What was found of a run.

    Parameters
    ----------
    state : of the outputs: old, new, mixed (each file is old or new), torn
    gone : seconds until the last process was gone; None if one was left
    faults : kind and text
    """

    state: str
    n_lines: int
    gone: float | None
    faults: list[tuple[str, str]] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        if self.faults:
            return "bad"
        return "held" if self.state == "new" else "changed nothing"

    def expect(self, holds: bool, kind: str, text: object) -> None:
        if not holds:
            self.faults.append((kind, str(text)))


def run_again(case: Case, place: Path, cluster: Cluster | None) -> None:
    """Run the same again, with nothing that disturbs it."""
    options: dict[str, Any] = {"backend": "serial"}
    if cluster is not None and cluster.lives():
        options = {"backend": "dask", "cluster": cluster.address}
    file = prepared(case.pipeline) / "p.yaml"
    pipeline.load(file).run(out=place / "out", runs=place / "runs", listener=lambda event: None, **options)


def judge(
    case: Case,
    place: Path,
    ended: Ended,
    cluster: Cluster | None,
    run_again: Callable[[Case, Path, Cluster | None], None] = run_again,
) -> Verdict:
    """Judge a run that has ended, then run the same again, and judge that and what is left."""
    lines = [line for line in ended.err.splitlines() if line.strip()]
    if ended.exit_code:
        lines += [line for line in ended.out.splitlines() if line.strip() and not _PROGRESS.match(line)]
    found = Verdict(_state(case, place), len(lines), ended.gone)
    code = ended.exit_code
    found.expect(code is not None, "hung", f"it had not ended {case.limit:g} s after the signal")
    found.expect(code in {None, *case.exit_codes()}, "exit", f"{code}, not {case.exit_codes()}")
    found.expect(len(lines) <= _MOST_LINES, "lines", f"{len(lines)} lines")
    found.expect("Traceback" not in ended.out + ended.err, "traceback", "a traceback on the terminal")
    found.expect(not ended.left, "process", ended.left)
    found.expect(not ended.segments, "segment", ended.segments)
    _judge_outputs(found, case, place, code)
    if code not in (None, 137):  # else the next run removes it; it does that with folders of modules, always
        left = [path for path in _in_temp(place) if "/code-" not in path]
        found.expect(not left, "temp", left)
    try:
        run_again(case, place, cluster)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is what the user would see)
        found.expect(False, "rerun", f"{type(error).__name__}: {error}")
    found.expect(_state(case, place) == "new", "rerun", f"its outputs are {_state(case, place)}")
    hidden = [str(path) for ending in (".staging-*", ".*.lock") for path in (place / "out").rglob(ending)]
    found.expect(not hidden, "staging", hidden)
    _sweep(place / "tmp")
    found.expect(not _in_temp(place), "temp", _in_temp(place))
    if cluster is not None and cluster.lives():
        left = left_on_cluster(cluster.address)
        found.expect(not left, "cluster", left)
    (place / "verdict.json").write_text(json.dumps(asdict(found) | {"ended": asdict(ended)}, indent=1))
    return found


def _state(case: Case, place: Path) -> str:
    old = digests(prepared(case.pipeline) / "old") if case.earlier else {}
    new, found = digests(prepared(case.pipeline) / "new"), digests(place / "out")
    if found in (old, new):
        return "old" if found == old else "new"
    known = all(found.get(name) in (old.get(name), new.get(name)) for name in {*found, *old, *new})
    return "mixed" if known else "torn"


def _judge_outputs(found: Verdict, case: Case, place: Path, code: int | None) -> None:
    """All outputs are new, or all are old; of a commit that was killed, the next run makes them old."""
    if found.state == "mixed" and code == 137 and list((place / "out").glob(".staging-*/journal.json")):
        with OutputTransaction(pipeline.build(prepared(case.pipeline) / "p.yaml").sinks, place / "out", run="next"):
            pass
        found.state = _state(case, place)
    allowed = {"new"} if code == 0 else {"old", "new"} if case.target == "parent" else {"old"}
    found.expect(found.state in allowed, "torn", f"exit code {code}, outputs {found.state}")


def _in_temp(place: Path) -> list[str]:
    """Return what is in the temp folder, but for the user's own folder, and what is beside it and should not be."""
    found = [path for path in place.iterdir() if path.name not in _PLACE]
    for top in (place / "tmp").iterdir():
        found += top.rglob("*") if top.name.startswith("pipeline-") else [top]
    return [str(path.relative_to(place)) for path in found]


def _sweep(folder: Path) -> None:
    """Remove what a killed run has left in its temp folder, as the next run with the same one does."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        with Folder():
            pass
    finally:
        tempfile.tempdir = before


def left_on_cluster(address: str) -> list[str]:
    """Return the tasks and the plugins of ours that a scheduler still has, once it had time to forget them."""
    with Client(address, set_as_default=False) as client:

        def left() -> list[str]:
            return [str(one) for some in client.run_on_scheduler(left_on) for one in some]

        wait(lambda: not left(), CLUSTER_LIMIT)
        return left()
