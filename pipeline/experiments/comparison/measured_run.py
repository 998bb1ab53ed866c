"""The program of the fresh process: start a back end, warm it, run the graph once, report.

``python -m pipeline.experiments.comparison.measured_run SPEC.json``. A process that has run before is no fair place to
measure: its heap has grown and its caches are warm, and a serial loop in such a process once gave "2.5 times faster on
2 cores". So each run begins in a fresh interpreter with a fixed hash seed; the clock starts when its workers are warm.
Results go through files beside the spec, since stdout belongs to the user's tasks.

The process ends with the one that started it: when the pipe on its stdin closes, it sends SIGTERM to itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import pickle
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import cloudpickle
import psutil

from pipeline.backends import registry
from pipeline.backends.trace_records import measuring_cost
from pipeline.errors import ConfigError, PipelineError, TaskError
from pipeline.graph.collect import collect
from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.importing import resolve
from pipeline.graph.nodes import GraphNode, task
from pipeline.graph.value_types import ValueType
from pipeline.outputs.commit import OutputTransaction
from pipeline.worker.atomic_write import replacing, write_errors
from pipeline.worker.process_setup import freeze_objects, install_modules, limit_threads

__all__ = ["Report", "Spec", "main", "measure"]

_WARM = 0.02  # seconds that a warming task takes at least, so that each worker gets some


@dataclass(frozen=True)
class Spec:
    """What to measure; paths are absolute.

    Parameters
    ----------
    graph : the saved Graph
    backend, workers, options : for :func:`pipeline.backends.registry.create`
    call, params, inputs : instead of the Graph on a back end: a function ``module:function``, its keywords, and the
        folder that paths among them are relative to
    outputs : folder for the outputs of this run
    folder : folder for the report, the trace and the wanted values
    """

    graph: str
    backend: str
    workers: int
    outputs: str
    folder: str
    options: Mapping[str, Any] = field(default_factory=dict)
    storage: Mapping[str, Any] = field(default_factory=dict)
    call: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: str = ""


@dataclass(frozen=True)
class Report:
    """The result of one measured run; times in seconds, ``failure`` is empty if it ran.

    Parameters
    ----------
    elapsed : from the first submit to the last output verified, workers warm
    start_up : until the workers were warm, with the fusing of the Graph and the making of the Trace
    verify : the part of ``elapsed`` for verifying the outputs
    commit : committing the outputs, after ``elapsed``
    user, system : CPU time of this process and all processes below it within ``elapsed``
    total_user, total_system : CPU time of this process and the children that it has waited for, over its whole life
    starved : time within ``elapsed`` for which threads were ready to run and had no core, added up; None: unknown
    files : output -> path of a file -> its hash
    dropped : step, item, cause
    """

    elapsed: float = 0.0
    start_up: float = 0.0
    verify: float = 0.0
    commit: float = 0.0
    user: float = 0.0
    system: float = 0.0
    total_user: float = 0.0
    total_system: float = 0.0
    starved: float | None = None
    n_workers: int = 0
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dropped: Sequence[Sequence[str]] = ()
    failure: str = ""
    exit_code: int = 0
    traceback: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """Make the run of the spec and write a report; return 0 whether or not the run succeeded."""
    (path,) = sys.argv[1:] if argv is None else argv
    spec = Spec(**json.loads(Path(path).read_text()))
    signal.signal(signal.SIGTERM, _interrupted)
    _end_with_parent()
    try:
        report = measure_call(spec) if spec.call else measure(spec)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  (whatever it was, it is this back end's result)
        report = _failed(error, Path(spec.folder))
    _write(Path(spec.folder, "report.json"), json.dumps(asdict(report), indent=1).encode())
    return 0


def measure(spec: Spec) -> Report:
    """Run the Graph once on a back end that is started and warmed for it, and return the report.

    Raises
    ------
    PipelineError : as the back end does
    """
    graph = Graph.load(spec.graph)
    imports = modules_of(graph)
    began = time.perf_counter()
    options = {"workers": spec.workers, "modules": graph.modules, **spec.options}
    with (
        registry.create(spec.backend, **options) as backend,
        OutputTransaction(graph.sinks, spec.outputs, run=Path(spec.folder).name, storage=spec.storage) as transaction,
    ):
        backend.run(warming_graph(imports, n_workers=backend.n_workers, modules=graph.modules))
        start_up = time.perf_counter() - began
        cpu, waits = _cpu_times(), _core_waits()
        began = time.perf_counter()
        outcome = backend.run(graph, context=transaction.context)
        computed = time.perf_counter()
        records = transaction.verify(outcome.results)
        verified = time.perf_counter()
        used = [after - earlier for after, earlier in zip(_cpu_times(), cpu, strict=True)]
        starved = sum(ns - waits.get(thread, 0) for thread, ns in _core_waits().items()) / 1e9 if waits else None
        began_commit = time.perf_counter()
        transaction.commit(dict.fromkeys(records, b"{}"))
        committed = time.perf_counter()
        n_workers = backend.n_workers
    files = {name: {f.path: f.hash for part in parts for f in part.files} for name, parts in records.items()}
    _keep(graph, outcome.results, Path(spec.folder, "values.pickle"))
    seen, ran = outcome.trace.notes, outcome.trace.elapsed
    notes = {**seen, "verify": verified - computed, "measuring": seen["measuring"] + measuring_cost()}
    trace = replace(outcome.trace, elapsed=ran + verified - computed, notes=notes)
    with write_errors(Path(spec.folder, "trace.parquet")):
        trace.save(Path(spec.folder, "trace.parquet"))
    own, below = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Report(
        elapsed=trace.elapsed,
        start_up=start_up + computed - began - ran,  # with making segments of the Graph, and a Trace of what happened
        verify=verified - computed,
        commit=committed - began_commit,
        user=used[0],
        system=used[1],
        starved=starved,
        total_user=own.ru_utime + below.ru_utime,
        total_system=own.ru_stime + below.ru_stime,
        n_workers=n_workers,
        files=files,
        dropped=[list(map(str, row)) for row in outcome.dropped],
    )


def measure_call(spec: Spec) -> Report:
    """Call a function of the user that does the whole job in one thread; save what it returns.

    Raises
    ------
    PipelineError : if there is no such function, or it returns no map
    """
    began = time.perf_counter()
    install_modules(Graph.load(spec.graph).modules)
    function = resolve(spec.call)
    limit_threads(1)
    freeze_objects()
    os.chdir(spec.inputs or ".")
    start_up = time.perf_counter() - began
    cpu = _cpu_times()
    began = time.perf_counter()
    values = function(**spec.params)
    elapsed = time.perf_counter() - began
    used = [after - earlier for after, earlier in zip(_cpu_times(), cpu, strict=True)]
    if not isinstance(values, Mapping):
        raise ConfigError(f"compare.reference: {spec.call} gave {type(values).__name__}; "
                          "it must return a map: name of an output -> its value")  # fmt: skip
    _write(Path(spec.folder, "values.pickle"), cloudpickle.dumps(dict(values)))
    return Report(elapsed=elapsed, start_up=start_up, user=used[0], system=used[1], n_workers=1)


def modules_of(graph: Graph) -> list[str]:
    """Return the modules of the functions of the tasks."""
    functions = (getattr(node, "func", None) for node in graph.tasks.values())
    names = {getattr(getattr(f, "func", f), "__module__", None) for f in functions}  # .func: of a functools.partial
    return sorted(name for name in names if name and not name.startswith("__"))


def warming_graph(imports: Sequence[str], *, n_workers: int, modules: Mapping[str, bytes]) -> Graph:
    """Return a Graph of two tasks a worker that import what the steps need."""
    busy = _WARM if n_workers > 1 else 0.0
    tasks: dict[Key, GraphNode] = {
        ("warm", i): task(("warm", i), warm, tuple(imports), busy) for i in range(2 * n_workers)
    }
    return Graph(
        tasks=tasks,
        wanted=tuple(tasks),
        owners=dict.fromkeys(tasks, "warm"),
        policies={"warm": Policy("warm", merge=False)},
        modules=modules,
        name="warm",
    )


def warm(imports: Iterable[str], busy: float) -> int:
    """Import modules in this worker, then wait until some seconds are over; return how many could be imported."""
    ends = time.perf_counter() + busy
    n = 0
    for name in imports:
        with contextlib.suppress(Exception):  # a missing module is reported by the task that needs it
            importlib.import_module(name)
            n += 1
    freeze_objects()
    time.sleep(max(0.0, ends - time.perf_counter()))
    return n


def kept_value_types(graph: Graph) -> dict[str, ValueType]:
    """Return the types of the values that a run returns besides its outputs: those of which every key is wanted."""
    wanted = set(graph.wanted)
    return {
        name: value_type
        for name, value_type in graph.value_types.items()
        if value_type.keys and wanted.issuperset(value_type.keys)
    }


def _keep(graph: Graph, results: Mapping[Any, Any], path: Path) -> None:
    """Save the values that are wanted besides the outputs, to be compared with serial's."""
    values = {
        name: collect(value_type, results, frames="arrow") for name, value_type in kept_value_types(graph).items()
    }
    _write(path, cloudpickle.dumps(values))


def _cpu_times() -> tuple[float, float]:
    """Return user and system CPU seconds of this process and all processes below it, the ended ones included."""
    user = system = 0.0
    this = psutil.Process()
    for process in [this, *this.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            user += times.user + times.children_user
            system += times.system + times.children_system
    return user, system


def _core_waits() -> dict[int, int]:
    """Return for each thread of this process and those below it the ns for which it was ready to run and had no core.

    Empty if the system does not report it.
    """
    this = psutil.Process()
    found = {}
    for process in [this, *this.children(recursive=True)]:
        for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, IndexError):  # the thread has ended, or the kernel does not count
                found[int(file.parent.name)] = int(file.read_text().split()[1])
    return found


def _failed(error: Exception, folder: Path) -> Report:
    with contextlib.suppress(Exception):  # a user's exception may not be picklable; the report has its text
        _write(folder / "error.pickle", pickle.dumps(error))
    known = isinstance(error, PipelineError)
    text = f"{error}" if known else f"{type(error).__name__}: {error}"
    lines = error.traceback if isinstance(error, TaskError) and error.traceback else "".join(
        traceback.format_exception(error))  # fmt: skip
    return Report(failure=text or type(error).__name__, exit_code=getattr(error, "exit_code", 70), traceback=lines)


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(data)


def _interrupted(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """End this process in an orderly way when the parent's end of the pipe on stdin is closed.

    The kernel says so by a signal, not a thread that waits: a process with threads can't fork its workers.
    """

    def on_change(signum: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            if select.select([0], [], [], 0)[0] and not os.read(0, 1):
                os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGIO, on_change)
    with contextlib.suppress(OSError):  # stdin is no pipe: somebody tries it by hand
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    on_change(signal.SIGIO, None)  # it may have been closed before


if __name__ == "__main__":
    from pipeline.experiments.comparison import (
        measured_run,  # else the warming function would belong to __main__, which workers do not import
    )

    sys.exit(measured_run.main())
