"""Measure the back ends of a comparison in rounds: each once a round, in an order that rotates."""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.backends.options import with_options
from pipeline.errors import Bug, PipelineError, WorkerLost
from pipeline.experiments.comparison.child_process import Child, measured
from pipeline.experiments.comparison.loss_accounts import Calls
from pipeline.experiments.comparison.output_differences import differences, reference_differences
from pipeline.experiments.comparison.result import Case, Difference, Measurement
from pipeline.units import count_text, duration_text

if TYPE_CHECKING:
    from pipeline.graph.graph import Graph


__all__ = ["OUTPUTS", "REFERENCE", "Rounds", "Tell", "rotated"]

REFERENCE = "serial"
OUTPUTS = "outputs"
"""The folder of the outputs of the measured runs, in the run folder."""
NOT_MEASURED = "it was interrupted before"

_REPORTED = ("elapsed", "start_up", "verify", "commit", "user", "system", "n_workers", "starved")

Tell = Callable[[str], None]
Named = TypeVar("Named")


@dataclass
class Rounds:
    """The rounds of one comparison. States: nothing measured -> first round done -> all rounds done.

    Parameters
    ----------
    cluster : that section of the file
    call, params, inputs : the reference call, its keywords, and the folder that paths among them are relative to
    calls : results of the reference call
    differences : label of a case -> what was compared, over all rounds
    failures : label of a case -> why it did not run, and its exit code
    """

    graph: Graph
    folder: Path
    cases: Sequence[Case]
    cluster: Mapping[str, Any]
    storage: Mapping[str, Any]
    tell: Tell
    call: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: str = ""
    calls: Calls | None = None
    measurements: list[Measurement] = field(default_factory=list)
    differences: dict[str, list[Difference]] = field(default_factory=dict)
    failures: dict[str, tuple[str, int]] = field(default_factory=dict)

    def run(self, repeat: int, budget: float | None) -> float:
        """Make up to ``repeat`` rounds, fewer if the next one would exceed ``budget`` seconds; return what is left."""
        began = time.perf_counter()
        for number in range(repeat):
            start = time.perf_counter()
            for case in rotated(self.cases, number):
                if case.label not in self.failures:
                    self._one(case, number)
                if number == 0 and case.backend == REFERENCE:
                    self._estimate(time.perf_counter() - start, repeat, budget)
            if self.call:
                self._call(number)
            now = time.perf_counter()
            last, spent = now - start, now - began
            if budget is not None and number + 1 < repeat and spent + last > budget:
                self.tell(f"stopped after {number + 1} of {count_text(repeat, 'round')}: "
                          f"the next would take {duration_text(last)}, and {duration_text(spent)} of "
                          f"{duration_text(budget)} are gone")  # fmt: skip
                break
            if number == 0 and repeat > 1:
                self.tell(f"{count_text(repeat - 1, 'more round')} will take {duration_text(last * (repeat - 1))}")
        return math.inf if budget is None else max(0.0, budget - (time.perf_counter() - began))

    def keep_complete(self) -> bool:
        """Keep what is complete after an interrupt; return whether that can be compared.

        That is all complete rounds; of the first round alone what was measured, if another back end was beside serial.
        """
        labels = [case.label for case in self.cases if case.label not in self.failures]
        rounds = {label: {m.round for m in self.measurements if m.case == label} for label in labels}
        complete = min(len(found) for found in rounds.values())
        if complete:
            self.measurements = [m for m in self.measurements if m.round < complete]
            if self.calls is not None:
                del self.calls.elapsed[complete:]
        elif not rounds[labels[0]] or not any(rounds[label] for label in labels[1:]):
            return False
        self.failures |= {label: (NOT_MEASURED, 130) for label, found in rounds.items() if not found}
        self.tell(f"interrupted; {count_text(complete, 'round')} complete" if complete
                  else "interrupted in the first round")  # fmt: skip
        return True

    def _estimate(self, whole: float, repeat: int, budget: float | None) -> None:
        """Report how long it will take, from serial's first run: between perfect speedup everywhere and none at all."""
        elapsed = self.measurements[0].elapsed
        n = len(self.cases)
        perfect = sum(
            elapsed * (1 - 1 / max(case.workers, 1)) for case in self.cases
        )  # what perfect speedup would save
        least, most = repeat * (whole * n - perfect), repeat * whole * n
        took = dict.fromkeys((duration_text(least), duration_text(most)))
        self.tell(f"serial took {duration_text(elapsed)}; {count_text(repeat, 'round')} of {count_text(n, 'back end')} "
                  f"will take {' to '.join(took)}, and the start of their workers")  # fmt: skip
        if budget is not None and most > budget:
            few, many = (max(1, min(repeat, int(budget * repeat / max(whole, 1e-9)))) for whole in (most, least))
            fits = count_text(few, "round") if few == many else f"{few} to {count_text(many, 'round')}"
            self.tell(f"for a budget of {duration_text(budget)} that may be {fits}")

    def _call(self, number: int) -> None:
        """Measure the call that does the whole job in one thread, and compare its results with serial's outputs."""
        self.calls = self.calls or Calls(self.call)
        if self.calls.failure:
            return
        own = self.folder / f"reference-{number + 1}"
        own.mkdir()
        child = measured(
            graph=self.folder / "graph",
            backend="",
            workers=1,
            options={},
            storage=self.storage,
            outputs=self.folder / OUTPUTS / own.name,
            folder=own,
            call=self.call,
            params=self.params,
            inputs=self.inputs,
        )
        if child.report.failure:
            self.calls.failure = child.report.failure.split("\n")[0]
            self.tell(f"the reference did not run: {self.calls.failure}")
            return
        self.calls.elapsed.append(child.report.elapsed)
        self.tell(f"round {number + 1}: reference {duration_text(child.report.elapsed)}")
        first = self.folder / OUTPUTS / f"{folder_name(self.cases[0])}-1"
        self.calls.differences += reference_differences(self.graph, own / "values.pickle", first)
        (own / "values.pickle").unlink()

    def _one(self, case: Case, number: int) -> None:
        """Measure one run, compare its results with the reference's, delete them."""
        name = f"{folder_name(case)}-{number + 1}"
        found = self._measured(case, name, number, self.folder / "graph")
        if isinstance(found, Child):
            self._failed(case, found.report.failure, found.report.exit_code, found.error)
            return
        self.measurements.append(found)
        self.tell(f"round {number + 1}: {case.label} {duration_text(found.elapsed)}")
        if name != f"{REFERENCE}-1":
            differences = self._differences(name)
            self.differences.setdefault(case.label, []).extend(differences)
            self._delete(name)

    def extra(self, case: Case, graph: Graph) -> tuple[Measurement | str, list[Difference]]:
        """Measure one run of another Graph with the same results; they are compared with the reference's."""
        path = self.folder / "graph-tried"
        graph.save(path)
        try:
            found = self._measured(case, "tried", 0, path)
        finally:
            path.unlink()
        if isinstance(found, Child):
            return found.report.failure.split("\n")[0], []
        self.tell(f"tried: {case.label} {duration_text(found.elapsed)}")
        try:
            return found, self._differences("tried")
        finally:
            self._delete("tried")

    def _measured(self, case: Case, name: str, number: int, graph: Path) -> Measurement | Child:
        """Measure one run; return the child if it failed."""
        own, outputs = self.folder / name, self.folder / OUTPUTS / name
        for place in (own, outputs):
            place.mkdir(parents=True)
        backend, options = with_options(case.backend, self.cluster)
        if backend == "dask":
            options["dashboard"] = False  # no one looks at it
        child = measured(
            graph=graph,
            backend=backend,
            workers=max(case.workers, 1),
            options=options,
            storage=self.storage,
            outputs=outputs,
            folder=own,
        )
        report = child.report
        if report.failure:
            self._delete(name)
            return child
        return Measurement(
            case=case.label,
            backend=case.backend,
            round=number,
            memory=child.peak_memory,
            process=child.elapsed,
            trace=str(own / "trace.parquet"),
            dropped=len(report.dropped),
            **{key: getattr(report, key) for key in _REPORTED},
        )

    def _differences(self, name: str) -> list[Difference]:
        """Return how the results of a run differ from those of the reference's first run."""
        runs = (f"{REFERENCE}-1", name)
        found = differences(
            self.graph, [self.folder / run for run in runs], [self.folder / OUTPUTS / run for run in runs]
        )
        for wrong in (d for d in found if not d.same):
            self.tell(f"{name}: {wrong.what}: {wrong.message}")
        return found

    def _delete(self, name: str) -> None:
        """Delete the results of a run."""
        shutil.rmtree(self.folder / OUTPUTS / name, ignore_errors=True)
        (self.folder / name / "values.pickle").unlink(missing_ok=True)

    def _failed(self, case: Case, reason: str, exit_code: int, error: BaseException | None) -> None:
        if case.backend == REFERENCE:
            if isinstance(error, PipelineError):
                raise error
            message = f"serial did not run: {reason} (log: {self.folder / f'{REFERENCE}-1' / 'log.txt'})"
            if exit_code == Bug.exit_code:
                raise Bug(message) from error
            raise WorkerLost(f"{message}; a task has ended it, or the memory was short")
        first = reason.split("\n")[0]
        self.failures[case.label] = (first, exit_code)
        self.tell(f"{case.label} did not run: {first}")


def folder_name(case: Case) -> str:
    """Return the prefix of the folders of a case's runs."""
    name = re.sub(r"[^\w.-]+", "-", case.backend).rstrip("-")
    return f"{name}-x{case.workers}" if case.scaled else name


def rotated(names: Sequence[Named], by: int) -> list[Named]:
    """Return the items in an order that begins with another one each round.

    >>> rotated(["a", "b", "c"], 4)
    ['b', 'c', 'a']
    """
    by %= len(names)
    return [*names[by:], *names[:by]]
