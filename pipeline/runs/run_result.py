"""The result of a run: its outputs, values, checks and measurements."""

from __future__ import annotations

import html
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.builder.plan import unused_steps
from pipeline.config.expressions.references import parse_reference
from pipeline.config.from_python import StepReference
from pipeline.config.html_table import html_table
from pipeline.config.model import Config
from pipeline.config.sections.formats import PICTURES
from pipeline.graph.collect import collect
from pipeline.graph.graph import Graph, Key
from pipeline.graph.value_types import PartsType, ValueType
from pipeline.outputs.damage import refuse_damaged
from pipeline.outputs.manifest import Manifest
from pipeline.outputs.open import open_output
from pipeline.runs import run_report
from pipeline.runs.check_results import CheckResult
from pipeline.runs.partial import Partial
from pipeline.trace.trace import Trace
from pipeline.trace.transfers import transfers
from pipeline.units import bytes_text, count_text, duration_text

__all__ = ["Run"]


@dataclass(frozen=True, eq=False)
class Run:
    """A run that ended well: its results, and what happened.

    ``run["step"]`` opens the step's committed output lazily if it has one, else returns its value if that was kept. Any
    other value is computed again by ``compute`` where that is quick and gives the same. The name may also be a
    reference that :meth:`pipeline.Pipeline.step` returned. ``"step" in run`` and ``list(run)`` show which values there
    are, without those that would be computed.

    Parameters
    ----------
    name : of the pipeline
    folder : the run folder
    root : the folder that output paths are relative to
    results : key -> value of the results that were kept
    outputs : name -> manifest
    checks : all of them passed, but for those that could not be evaluated (``partial``)
    dropped : step instance, item and cause of each item that failed under ``on_error: drop``
    partial : with ``keep_going``, the tasks that failed and what is missing since they did; false if nothing is
    times : part of the wall time -> seconds; the parts add up to ``wall``. See :data:`pipeline.runs.wall_time.PARTS`
    resumed : what was reused from earlier runs and what was run again, and why
    notes : other measurements of the back end
    draw : function that makes the report of a run folder and returns its path; here it writes ``report.json`` alone,
        ``pipeline.run`` sets one that makes the page, too
    config : what was run
    compute : function that returns the value of a step that was not kept, or raises KeyError with what to do; None:
        nothing is computed again
    """

    name: str
    backend: str
    folder: Path
    root: Path
    graph: Graph
    results: Mapping[Key, Any]
    trace: Trace
    outputs: Mapping[str, Manifest]
    checks: tuple[CheckResult, ...] = ()
    dropped: tuple[tuple[str, str, str], ...] = ()
    partial: Partial = field(default_factory=Partial)
    times: Mapping[str, float] = field(default_factory=dict)
    resumed: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[Path], Path] = run_report.write
    config: Config | None = None
    compute: Callable[[Run, str], Any] | None = None

    @property
    def elapsed(self) -> float:
        """Seconds from the first submitted task until all outputs are verified, with warm workers."""
        return self.trace.elapsed

    @property
    def wall(self) -> float:
        """Seconds from the call, or from the start of the program, until the run folder was complete."""
        return sum(self.times.values())

    @property
    def start_up(self) -> float:
        """Seconds until the first task could be submitted."""
        return self.times.get("start-up", 0.0)

    @property
    def commit(self) -> float:
        """Seconds for committing the outputs, after they were verified."""
        return self.times.get("commit", 0.0)

    def __getitem__(self, name: str | StepReference) -> Any:
        value_type = self._value_type(_instance(name))
        output = self._output(value_type)
        if output is not None:
            return self.open(output)
        if all(key in self.results for key in value_type.keys):
            return collect(value_type, self.results)
        if missing := self.partial.reason(_instance(name)):
            raise KeyError(f"{_instance(name)!r} was {missing}")
        if self.compute is not None:
            return self.compute(self, _instance(name))
        raise KeyError(f"{_instance(name)!r} was not kept; give it an output, or run with keep: [{name}]")

    def __contains__(self, name: object) -> bool:
        try:
            value_type = self._value_type(_instance(name))
        except KeyError:
            return False
        return self._output(value_type) is not None or all(key in self.results for key in value_type.keys)

    def __iter__(self) -> Iterator[str]:
        return (instance for instance in self.graph.value_types if instance in self)

    def _output(self, value_type: ValueType) -> str | None:
        """Return the name of the output that holds the value; None if there is none."""
        sinks = (sink for sink in self.graph.sinks if sink.name in self.outputs and sink.format not in PICTURES)
        return next((sink.name for sink in sinks if _same_tasks(sink.value_type, value_type)), None)

    def open(self, output: str, *, hashes: bool = False) -> Any:
        """Open a committed output: arrays and Parquet lazily, other formats in memory.

        Parameters
        ----------
        hashes : whether its files are read and compared with the hashes of its manifest; their sizes always are

        Raises
        ------
        DataError : it is not as it was committed
        """
        for sink in self.graph.sinks:
            if sink.name == output:
                if output in self.partial.outputs:
                    raise KeyError(f"output {output!r} was {self.partial.reason(output)}")
                refuse_damaged(self.root, sink.path, hashes=hashes)
                return open_output(sink, self.root, files=[file.path for file in self.outputs[output].files])
        raise KeyError(f"there is no output {output!r}; there are {', '.join(self.outputs) or 'none'}")

    def report(self) -> Path:
        """Make ``report.json`` and ``report.html`` in the run folder, and return the path of the page."""
        return self.draw(self.folder)

    def _value_type(self, name: str) -> ValueType:
        value_types = self.graph.value_types
        if name in value_types:
            return value_types[name]
        instance, _, part = name.rpartition(".")
        owner = value_types.get(instance)
        if isinstance(owner, PartsType) and part in owner.parts:
            return owner.parts[part]
        if self.config is not None and name in self.config.unused:
            raise KeyError(f"{name!r} was not computed, since nothing needs it: p.show({name!r}) computes it")
        instances = [other for other in value_types if other.partition("[")[0] == name.partition("[")[0]]
        raise KeyError(f"there is no step {name!r}; there are {', '.join(instances or value_types)}")

    def to_dict(self) -> dict[str, Any]:
        """Return a summary of the run as plain values."""
        unchanged = {one["name"] for one in self.resumed.get("outputs", ()) if one["state"] == "unchanged"}
        outputs = [
            {
                "name": name,
                "format": manifest.format,
                "path": str(self.root / manifest.path),
                "files": len(manifest.files),
                "rows": manifest.rows,
                "bytes": manifest.nbytes,
                "unchanged": name in unchanged,
            }
            for name, manifest in self.outputs.items()
        ]
        moved = transfers(self.trace)
        return {
            "name": self.name,
            "backend": self.backend,
            "workers": self.trace.n_workers,
            "tasks": self.resumed.get("tasks", len(self.graph)),
            "graph": next((m.graph for m in self.outputs.values()), ""),
            "elapsed": self.elapsed,
            "start_up": self.start_up,
            "commit": self.commit,
            "wall": self.wall,
            "times": dict(self.times),
            "folder": str(self.folder),
            "outputs": outputs,
            "checks": [check.to_dict() for check in self.checks],
            "unused": list(unused_steps(self.config)) if self.config is not None else [],
            **({"partial": self.partial.to_dict()} if self.partial else {}),
            "dropped": [{"step": step, "item": item, "cause": cause} for step, item, cause in self.dropped],
            "transfers": moved and asdict(moved),
            "resumed": dict(self.resumed),
        }

    def __repr__(self) -> str:
        texts = [
            count_text(len(self.outputs), "output"),
            f"{duration_text(self.elapsed)} on {count_text(self.trace.n_workers, 'worker')}",
        ]
        if self.checks:
            texts.insert(1, f"{count_text(sum(check.ok for check in self.checks), 'check')} passed")
        if self.dropped:
            texts.append(f"{count_text(len(self.dropped), 'item')} dropped")
        if self.partial:
            texts.append(self.partial.problem)
        return f"<Run {self.name!r} on {self.backend}: {', '.join(texts)}; {self.folder}>"

    def _repr_html_(self) -> str:
        about, _, folder = repr(self).strip("<>").rpartition("; ")
        rows = [
            (name, self.root / one.path, one.format, len(one.files), bytes_text(one.nbytes))
            for name, one in self.outputs.items()
        ]
        table = html_table(("output", "path", "format", "files", "size"), rows, numbers=("files", "size"))
        values = ", ".join(itertools.islice(self, _FEW)) + (", …" if len(list(self)) > _FEW else "")
        lines = [f"values to get by name: {values}" if values else "", f"run folder: {folder}"]
        below = "<br>".join(html.escape(line) for line in lines if line)
        return f"<p>{html.escape(about)}</p>{table if rows else ''}<p>{below}</p>"


_FEW = 20  # values that a notebook lists


def _instance(name: object) -> str:
    """Return the name of a step instance as the Graph has it: without the quotes that a reference may have."""
    if not isinstance(name, StepReference):
        return str(name)
    reference = parse_reference(str(name))
    picks = ",".join(str(replace(pick, quoted=False)) for pick in reference.picks)
    return f"{replace(reference, picks=())}[{picks}]" if picks else str(name)


def _same_tasks(one: ValueType, other: ValueType) -> bool:
    """Return whether two values are made by the same tasks; a value with parts is made by the tasks of its whole."""
    if isinstance(other, PartsType):
        return other.whole is not None and _same_tasks(one, other.whole)
    return one.kind == other.kind and getattr(one, "name", None) == other.name
