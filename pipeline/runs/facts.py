"""What a run records about itself in its run folder; its accounts and reports are made from these files alone.

=================================  ========================================================================
``run.json``                       name, back end and Graph; once the run has ended well also how it went
``config.json``                    the file as it was checked
``versions.json``                  versions of Python and of the packages that matter
``provenance.json``                the machine, versions, hashes of the code, and the resolved file as YAML
``inputs.json``                    hashes of the files that were read
``shape.parquet``                  a row a task: which tasks it needs
``trace.parquet``                  a row a task: what happened; also of a run that failed after its last task
``failure.json``                   why the run, or the comparison, failed
=================================  ========================================================================

Secrets are masked in all of them. None holds the path of its folder, so the folder can be moved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.json_values import json_value, without_nan
from pipeline.config.resolved_yaml import resolved_text
from pipeline.errors import Bug, OutputError, PipelineError, WriteError, is_full
from pipeline.graph.garbage_collection import rarely_collected
from pipeline.graph.late_pandas import numbers_of
from pipeline.runs.folders import FAILURE, INPUTS, PROVENANCE, RUN, SHAPE, TRACE, began
from pipeline.runs.provenance.code import code_hashes, named
from pipeline.runs.provenance.inputs import input_hashes
from pipeline.runs.provenance.machine import environment, versions
from pipeline.trace.shape import Shape
from pipeline.worker.atomic_write import write_errors, write_json

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph
    from pipeline.runs.partial import Partial
    from pipeline.runs.wall_time import WallTime
    from pipeline.trace.trace import Trace


__all__ = ["Facts", "hide_secrets", "noted_failure", "shape_without_secrets", "trace_without_secrets"]

# 1: as RunFacts, Provenance and Inputs of pipeline.runs.history.schema say.
_FORMAT = 1


class Facts:
    """The files of one run. States: nothing written -> :meth:`begin` -> :meth:`planned` -> :meth:`end` or :meth:`fail`.

    Parameters
    ----------
    folder : the run folder
    backend, workers : as they were asked for
    """

    def __init__(self, folder: Path, config: Config, graph: Graph, *, backend: str, workers: int | None) -> None:
        self.folder, self.config, self.graph = folder, config, graph
        self._run: dict[str, Any] = {
            "format": _FORMAT,
            "kind": "run",
            "name": config.name,
            "backend": backend,
            "workers": workers,
            "n_tasks": len(graph),
        }

    @rarely_collected()
    def begin(self) -> None:
        """Write what is known before it is known what is to be run."""
        provenance = {
            "format": _FORMAT,
            "environment": environment(named(self.config)),
            "code": code_hashes(self.graph, self.config),
            "config": resolved_text(self.config),
        }
        self._write("config.json", json_value(self.config))
        self._write("versions.json", versions())
        self._write(PROVENANCE, provenance)

    @rarely_collected()
    def planned(self, graph: Graph, resumed: Mapping[str, Any] | None = None) -> None:
        """Write what is to be run.

        Parameters
        ----------
        graph : what is to be run: the Graph, or a part of it
        resumed : what is reused, in the types of JSON
        """
        shape = Shape.of(graph)
        with write_errors(self.folder / SHAPE):
            shape_without_secrets(shape, self.config).save(self.folder / SHAPE)
        self._run |= {"n_tasks": len(graph), "fingerprint": graph.fingerprint, "graph": shape.to_dict()}
        if resumed is not None:
            self._run["resumed"] = dict(resumed)
        self._write(RUN, self._run)

    @rarely_collected()
    def end(self, trace: Trace, *, wall_time: WallTime, n_dropped: int, partial: Partial) -> None:
        """Write how a run went that has ended well, or has kept going; all times in seconds."""
        self._write_inputs()
        self._write_trace(trace)
        steps = self._steps(trace)
        wall_time.mark("after")  # what is written below holds the times
        times = wall_time.parts
        self._run |= {
            "workers": trace.n_workers,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "exit_code": partial.exit_code if partial else 1 if n_dropped else 0,
            **({"problem": partial.problem, "partial": partial.to_dict()} if partial else {}),
            "elapsed": trace.elapsed,
            "start_up": times["start-up"],
            "commit": times["commit"],
            "wall": wall_time.total,
            "times": times,
            "steps": steps,
        }
        self._write(RUN, self._run)

    def fail(self, trace: Trace | None) -> None:
        """Write what is known of a run that failed; where there is no room for it, nothing is raised.

        Parameters
        ----------
        trace : None: not all tasks ran
        """
        with contextlib.suppress(OSError, WriteError):
            if "fingerprint" not in self._run:
                self.planned(self.graph)
            self._write_inputs()
            if trace is not None:
                self._write_trace(trace)

    def _write_inputs(self) -> None:
        """Write hashes of what was read; after the run, since what has changed since it began is a result of it."""
        inputs = input_hashes(self.config, since=began(self.folder))
        self._write(INPUTS, {"format": _FORMAT, "inputs": inputs})

    def _write_trace(self, trace: Trace) -> None:
        with write_errors(self.folder / TRACE):
            trace_without_secrets(trace, self.config).save(self.folder / TRACE)

    def _steps(self, trace: Trace) -> dict[str, dict[str, float]]:
        """Return for each step of the file how many of its tasks ran, and their seconds; for later runs' time left."""
        steps = trace.tasks["step"].combine_chunks().dictionary_encode()
        codes = numbers_of(steps.indices)  # not group_by, which imports pandas
        counts = np.bincount(codes, minlength=len(steps.dictionary))
        nanoseconds = np.zeros(len(steps.dictionary), np.int64)
        np.add.at(nanoseconds, codes, numbers_of(pc.subtract(trace.tasks["stop"], trace.tasks["start"])))
        found: dict[str, dict[str, float]] = {}
        for instance, ns, n in zip(steps.dictionary.to_pylist(), nanoseconds.tolist(), counts.tolist(), strict=True):
            step = self.graph.policies[instance].step
            entry = found.setdefault(step, {"n_tasks": 0, "seconds": 0.0})
            entry["n_tasks"] += n
            entry["seconds"] += ns / 1e9
        return found

    def _write(self, name: str, value: Any) -> None:
        write_json(self.folder / name, self.config.masked(without_nan(value)))


def shape_without_secrets(shape: Shape, config: Config) -> Shape:
    """Return the Shape with the file's secrets masked in the names of tasks and instances (a matrix may list them)."""
    if not config.secrets:
        return shape
    mask = _mask_of_names(config)
    return replace(
        shape,
        needs={mask(key): tuple(map(mask, needs)) for key, needs in shape.needs.items()},
        owners={mask(key): mask(instance) for key, instance in shape.owners.items()},
        steps={mask(instance): step for instance, step in shape.steps.items()},
    )


def trace_without_secrets(trace: Trace, config: Config) -> Trace:
    """Return the Trace with the file's secrets masked in every text, in names as :func:`shape_without_secrets` does."""
    if not config.secrets:
        return trace
    mask = _mask_of_names(config)
    tasks = trace.tasks
    for i, column in enumerate(tasks.schema):
        if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
            texts = [text if text is None else mask(text) for text in tasks[i].to_pylist()]
            tasks = tasks.set_column(i, column, pa.array(texts, pa.string()).cast(column.type))
    return replace(trace, tasks=tasks, notes=config.masked(dict(trace.notes)))


def _mask_of_names(config: Config) -> Callable[[str], str]:
    """Return a function that masks secrets so that names which differ by a secret still differ: ``***1``, ``***2``."""
    secrets = sorted(config.secrets, key=lambda secret: (-len(secret), secret))
    found = [secret for secret in secrets if config.masked(secret) != secret]
    marks = {secret: "***" if len(found) == 1 else f"***{i}" for i, secret in enumerate(found, start=1)}

    def mask(text: str) -> str:
        for secret, mark in marks.items():
            text = text.replace(secret, mark)
        return text

    return mask


@contextlib.contextmanager
def noted_failure(folder: Path, kind: str, config: Config | None) -> Iterator[None]:
    """Write ``failure.json`` into a run folder when the block raises; secrets are masked.

    Parameters
    ----------
    kind : ``run`` or ``comparison``
    """
    try:
        yield
    except BaseException as error:
        code = getattr(error, "exit_code", _exit_code(error))
        failure: Any = {
            "kind": kind,
            "type": type(error).__name__,
            "message": str(error) or {130: "ended by Ctrl-C", 143: "ended by SIGTERM"}.get(code, ""),
            "exit_code": code,
            "traceback": getattr(error, "traceback", ""),
        }
        with contextlib.suppress(WriteError):  # the disk may be full
            write_json(folder / FAILURE, config.masked(failure) if config is not None else failure)
        raise


def hide_secrets(error: BaseException | None, config: Config) -> None:
    """Mask the file's secrets in the texts of an exception, and of those that it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.args = tuple(config.masked(text) if type(text) is str else text for text in error.args)
        if isinstance(error, PipelineError):
            vars(error).update({name: config.masked(text) for name, text in vars(error).items() if type(text) is str})
        error = error.__cause__ or error.__context__


def _exit_code(error: BaseException) -> int:
    """Return the exit code of an exception that is not one of ours."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return OutputError.exit_code if is_full(error) else Bug.exit_code
