"""Pipelines in Python: load one from a file or build it here, then check, build, run and compare it.

>>> import pipeline
>>> p = pipeline.load("month.yaml")       # doctest: +SKIP
>>> r = p.run(backend="threads")          # doctest: +SKIP
>>> r["anomaly"]                          # doctest: +SKIP

The keys of a step, an output and a check are those of a file; see :class:`Pipeline` for how to write them here.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from pipeline.config.definition import PipelineDefinition
from pipeline.config.from_python import StepReference, param_nodes
from pipeline.config.loader import load as load_config
from pipeline.config.loader import loads
from pipeline.config.model import Config
from pipeline.runs.wall_time import WallTime

if TYPE_CHECKING:
    from pipeline.backends.events import Listener
    from pipeline.builder.plan import Plan
    from pipeline.graph.graph import Graph
    from pipeline.report.explain_cause_text import ExplanationReport
    from pipeline.report.verdicts import ComparisonReport
    from pipeline.runs.batches import Batches
    from pipeline.runs.run import Run


__all__ = ["Pipeline", "batches", "build", "check", "compare", "load", "run"]


class Pipeline(PipelineDefinition):
    """A pipeline, loaded from a file or built in Python.

    Parameters
    ----------
    name : of the pipeline; or a Config, which then defines all of it
    description, include, params, modules, seed, storage, cluster, compare, limits, cache : as at the top level of a
        file; ``include`` may name files whose steps this pipeline uses
    root : the folder that input paths, modules and included files are relative to; default: the current folder

    A loaded pipeline is immutable, and safe to share between threads. A pipeline built here grows with each
    :meth:`step`, :meth:`output`, :meth:`expect` and :meth:`keep`. It is checked when it is first used; all errors are
    reported at once, each with the line of its call.

    >>> import pipeline
    >>> p = pipeline.Pipeline("squares", params={"n": 8}, seed=7)
    >>> x = p.step("x", op="arange", stop="${n}", chunks=4, dim="i")
    >>> _ = p.step("square", expr=f"{x} ** 2")
    >>> _ = p.step("total", op="sum", input=p["square"][{"i": slice(2, None)}])
    >>> p.output("square", to="zarr", path="square.zarr")
    >>> p.expect("total", approx=139, abs=0)
    >>> p
    <Pipeline 'squares': 3 steps, outputs: square>
    >>> p.check().rows[2].shape
    'one number'
    >>> print(p.to_yaml(), end="")
    version: 1
    name: squares
    params: {n: 8}
    seed: 7
    steps:
      x: {op: arange, stop: "${n}", chunks: 4, dim: i}
      square: {expr: "x ** 2"}
      total: {op: sum, input: "square[i=2:]"}
    outputs:
      square: {to: zarr, path: square.zarr}
    checks:
      - {that: total, approx: 139, abs: 0}
    >>> pipeline.load(p.to_yaml()) == p
    True
    """

    def to_svg(self, *, data: bool = True) -> str:
        """Return an SVG of the steps, as ``pipeline graph`` draws it; without ``data`` it shows kinds but no sizes."""
        from pipeline.report.graph_svg import graph_svg

        return graph_svg(self.config, self.build() if data else None)

    def check(self, *, data: bool = True, out: str | os.PathLike[str] = ".") -> Plan:
        """Return the plan: a row a step, from metadata only. See :func:`pipeline.builder.plan.plan`.

        Parameters
        ----------
        data : False: check the pipeline alone, without its inputs
        out : the output folder of the run that is checked

        Raises
        ------
        ConfigError : also for outputs that collide with inputs
        OutputError : for files in the way of outputs, which must not be replaced
        """
        from pipeline.builder.plan import plan
        from pipeline.runs.protected_inputs import check_outputs

        graph = self.build() if data else None
        check_outputs(self.config, graph, out)
        return plan(self.config, graph)

    def build(self) -> Graph:
        """Return the task graph. See :func:`pipeline.builder.build.build`."""
        from pipeline.builder.build import build as build_graph

        return build_graph(self.config)

    def show(
        self,
        reference: str | StepReference,
        *,
        backend: str = "threads",
        workers: int | None = None,
        listener: Listener | None = None,
        progress: bool | None = None,
    ) -> Any:
        """Compute one value and return it, for a notebook to show; nothing is written.

        Parameters
        ----------
        reference : a step, part, pick or item: ``p.show("monthly[t2m]")``, ``p.show("svd.u[component=0:2]")``,
            ``p.show("fit[alpha=0.1]")``. Pick a part of what does not fit into memory
        backend : that computes it, as for :meth:`run`; the default starts no process
        workers : number of workers; None: as for :meth:`run`
        listener, progress : as for :meth:`run`

        Returns
        -------
        An array as ``xarray.DataArray``, a frame as ``pandas.DataFrame``, items as a dict from key to item, any other
        value as it is. A reference to several instances (``monthly[*]``) gives a dict from instance to value

        Raises
        ------
        ConfigError : if the reference names nothing, with the nearest name
        PipelineError : as :meth:`run` does
        """
        from pipeline.report.notebook import run_display
        from pipeline.runs.inspect import preview

        options: dict[str, Any] = {"backend": backend, "workers": workers, "frames": "pandas"}
        with run_display(self.config, listener, progress, backend=backend, lasting=False) as shown:
            found = preview(self.config, str(reference), listener=shown, **options)
        return found[0].value if len(found) == 1 else {one.name: one.value for one in found}

    def run(
        self,
        *,
        backend: str = "dask",
        workers: int | None = None,
        cluster: str | None = None,
        out: str | os.PathLike[str] = ".",
        runs: str | os.PathLike[str] = "runs",
        keep: Sequence[str | StepReference] = (),
        force: bool | str | Sequence[str] = False,
        only: str | Sequence[str] = (),
        from_: str | Sequence[str] = (),
        accept: str | Sequence[str] = (),
        verify: bool = False,
        cache: str | os.PathLike[str] | None = None,
        options: Mapping[str, Any] | None = None,
        keep_going: bool = False,
        listener: Listener | None = None,
        progress: bool | None = None,
    ) -> Run:
        """Run it and commit its outputs; outputs and checks of which nothing has changed are not made again.

        Parameters
        ----------
        backend : ``serial``, ``threads``, ``pool``, ``processes``, ``process-per-task``, ``manager`` or ``dask``; with
            options: ``pool[start_method=fork]``
        workers : number of workers; None: ``cluster: {workers}`` of the file, else as many as cores
        cluster : address of a running Dask scheduler: ``tcp://host:port``
        out : the folder that output paths are relative to; outputs stay below it
        runs : the folder of the run folders
        keep : steps, or instances of them, whose values the result returns, too: ``keep=["tas", p["fit"]["A1B"]]``
        force : True: run all of it, whatever has changed; the name of a step, or several: run these anew
        only : the name of a step, or several: write only their outputs, and run what these need; one that has no
            output is among the values that the result returns
        from_ : the name of a step, or several, which run anew with all that depends on them
        accept : ``code:STEP``, or several: take what has changed as harmless; also ``versions:STEP``, ``op:STEP``, …
        verify : whether files of earlier outputs are compared by their hashes, too, before they are reused
        cache : the folder where the values of all steps are kept for later runs; None: that of the file, if any
        options : name -> value of options of the back end, besides those in ``backend``
        keep_going : whether, after a task has failed, what does not need it is computed, and complete outputs are
            committed; the result's ``partial`` lists what is missing
        listener : function that is called with each event of the run (:mod:`pipeline.backends.events`), instead of
            showing progress and the lines that tasks print
        progress : whether progress is shown; None: in a notebook alone

        Raises
        ------
        ConfigError : also for options that do not fit together
        PipelineError : the run failed; nothing was committed, and earlier outputs are unchanged
        """
        wall_time = _began.get() or WallTime()
        from pipeline.report.notebook import run_display
        from pipeline.runs.recomputation import recomputed
        from pipeline.runs.run import run as run_config

        with run_display(self.config, listener, progress, backend=backend, options=options, runs=runs) as shown:
            done = run_config(
                self.config,
                backend=backend,
                workers=workers,
                cluster=cluster,
                out=out,
                runs=runs,
                keep=keep,
                force=force,
                only=only,
                from_=from_,
                accept=accept,
                verify=verify,
                cache=cache,
                options=options,
                keep_going=keep_going,
                listener=shown,
                wall_time=wall_time,
            )
        return replace(done, draw=_draw, compute=recomputed)

    def compare(
        self,
        *,
        backends: Sequence[str] | None = None,
        workers: int | None = None,
        scale: Sequence[int] | None = None,
        cluster: str | None = None,
        repeat: int | None = None,
        budget: float | None = None,
        runs: str | Path = "runs",
        allow_effects: bool = False,
        try_seconds: float = 60.0,
        tell: Callable[[str], None] | None = None,
    ) -> ComparisonReport:
        """Run the same graph on several back ends, and compare speed and results; no output of the file is written.

        Ctrl-C, or an interrupt of the kernel, ends it after the rounds that were made: they are compared and returned,
        with ``interrupted`` set. Nothing is left running.

        Parameters
        ----------
        backends : names, with options or without (``pool[chunksize=4]``); serial is the reference and always runs;
            ``all``: every one that the file can use. None: those of the file, else threads, pool, processes and dask
        workers : of each back end but serial; None: ``cluster: {workers}`` of the file, else as many as cores
        scale : several numbers of workers, instead of ``workers``: each back end is measured with each
        cluster : address of a running Dask scheduler, which is measured as one more back end: ``tcp://host:port``
        repeat : rounds; None: as the file has it, else 3
        budget : seconds; fewer rounds are made if they would take longer, at least one
        runs : the folder of the run folders
        allow_effects : run steps marked ``pure: false``; their effects take place once for each back end and round
        try_seconds : the first recommendation is tried in one more round if that takes no longer; 0: none is tried
        tell : function that is called with lines of text about the progress; None: they are shown in a notebook alone

        Raises
        ------
        ConfigError : if a back end is unknown, or a step has effects outside and ``allow_effects`` is not given
        PipelineError : whatever serial raises; other back ends that fail are rows of the result
        """
        from pipeline.experiments.comparison.compare import ComparisonInterrupted
        from pipeline.experiments.comparison.compare import compare as compare_config
        from pipeline.report.comparison_json import write_report
        from pipeline.report.html.page import write as write_html
        from pipeline.report.notebook import lines_display
        from pipeline.report.verdicts import ComparisonReport

        with lines_display(tell) as shown:
            try:
                result = compare_config(
                    self.config,
                    backends=backends,
                    workers=workers,
                    scale=scale,
                    cluster=cluster,
                    repeat=repeat,
                    budget=budget,
                    runs=runs,
                    allow_effects=allow_effects,
                    try_seconds=try_seconds,
                    tell=shown,
                )
            except ComparisonInterrupted as interrupt:
                result = interrupt.comparison
        write_report(result)
        write_html(Path(result.folder))
        return ComparisonReport.of(result)

    def explain(
        self,
        *,
        workers: int | None = None,
        budget: float = 60.0,
        steps: Sequence[str] | None = None,
        runs: str | os.PathLike[str] = "runs",
        tell: Callable[[str], None] | None = None,
    ) -> ExplanationReport:
        """Find by experiment why steps do not scale, and what to change.

        Parameters
        ----------
        workers : of the probes, at least 2; None: as many as cores
        budget : seconds that all of it may take; steps that it does not reach are listed
        steps : the steps to probe; None: the most expensive ones
        runs : the folder in which the scratch folder is made
        tell : function that is called with lines of text about the progress; None: they are shown in a notebook alone

        Raises
        ------
        ConfigError : if there is no such step, or fewer than 2 workers are asked for
        PipelineError : what a task raised in the serial run
        """
        from pipeline.experiments.explanation.explain import explain as explain_config
        from pipeline.report.explain_cause_text import ExplanationReport
        from pipeline.report.notebook import lines_display

        with lines_display(tell) as shown:
            found = explain_config(self.config, workers=workers, budget=budget, steps=steps, runs=runs, tell=shown)
        return ExplanationReport.of(found)


def _draw(folder: Path) -> Path:
    """Make the report of a run folder, and return the path of its page."""
    from pipeline.report.redraw import redraw

    return redraw(folder).page


def load(
    path: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    root: str | Path | None = None,
) -> Pipeline:
    """Read a YAML file, or a YAML text.

    Parameters
    ----------
    path : the file; or YAML text, recognised by having more than one line, such as :meth:`Pipeline.to_yaml` returns
    params : dotted name -> value, to replace params of the file: ``{"base.first": 1991}``
    root : the folder that input paths are relative to; default: the file's folder, for a text the current folder

    Raises
    ------
    ConfigError : listing all errors of the file
    """
    sets = param_nodes(params or {})
    if isinstance(path, str) and "\n" in path:
        return Pipeline(loads(path, root=root or ".", sets=sets))
    return Pipeline(load_config(path, sets=sets, root=root))


def _pipeline_of(source: Pipeline | Config | str | Path) -> Pipeline:
    if isinstance(source, Pipeline):
        return source
    return Pipeline(source) if isinstance(source, Config) else load(source)


_began: ContextVar[WallTime | None] = ContextVar("began", default=None)
"""The clock of a call that loads a file before it runs it."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Source = Pipeline | Config | str | Path


def _of_source(method: Callable[Concatenate[Pipeline, _P], _T]) -> Callable[Concatenate[_Source, _P], _T]:
    """Return a method of Pipeline as a function of a Pipeline, a Config, or a file."""

    @functools.wraps(method)
    def function(source: _Source, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        token = _began.set(WallTime())
        try:
            return method(_pipeline_of(source), *args, **kwargs)
        finally:
            _began.reset(token)

    own, (_, *others) = inspect.signature(function), inspect.signature(method).parameters.values()
    source = inspect.Parameter("source", inspect.Parameter.POSITIONAL_ONLY, annotation="Pipeline | Config | str | Path")
    function.__signature__ = own.replace(parameters=[source, *others])  # type: ignore[attr-defined]
    function.__doc__ = f"Use the method of this name of a pipeline, or of the pipeline in a file.\n\n{method.__doc__}"
    return function


check = _of_source(Pipeline.check)
build = _of_source(Pipeline.build)
run = _of_source(Pipeline.run)
compare = _of_source(Pipeline.compare)


def batches(
    source: Any,
    batch_size: int,
    *,
    step: str | None = None,
    output: str | None = None,
    workers: int = 2,
    prefetch: int = 2,
    shuffle: bool = False,
    seed: int = 0,
    buffer: int = 8,
    drop_last: bool = False,
    **options: Any,
) -> Batches:
    """Return the rows of files, of an output or of a step in batches, read ahead by worker processes.

    Parameters
    ----------
    source : as of :func:`pipeline.runs.batches.batches`, which has the other parameters, too; it may be a Pipeline
    options : parameters of the op that reads the files: ``columns``, ``variable``, ``chunks``, …
    """
    from pipeline.runs.batches import batches as batches_of

    return batches_of(
        source.config if isinstance(source, Pipeline) else source,
        batch_size,
        step=step,
        output=output,
        workers=workers,
        prefetch=prefetch,
        shuffle=shuffle,
        seed=seed,
        buffer=buffer,
        drop_last=drop_last,
        **options,
    )
