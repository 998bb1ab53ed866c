"""Pipelines in Python: load one from a file or build it here, then check, build, run and compare it.

>>> import pipeline
>>> p = pipeline.load("month.yaml")       # doctest: +SKIP
>>> r = p.run(backend="threads")          # doctest: +SKIP
>>> r["anomaly"]                          # doctest: +SKIP

The keys of a step, an output and a check are those of a file; see :class:`Pipeline` for how to write them here.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.absolute_paths import with_absolute_paths
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.from_python import StepReference, tree_of
from pipeline.config.loader import load as load_config
from pipeline.config.loader import loads
from pipeline.config.model import Config
from pipeline.config.python_builder import PipelineBuilder
from pipeline.config.yaml_nodes import MOST_BYTES, Node
from pipeline.config.yaml_writer import yaml_text
from pipeline.errors import ConfigError, Location
from pipeline.units import count_text

if TYPE_CHECKING:
    from pipeline.builder.plan import Plan
    from pipeline.graph.graph import Graph
    from pipeline.report.explain_cause_text import ExplanationReport
    from pipeline.report.verdicts import ComparisonReport
    from pipeline.runs.batches import Batches
    from pipeline.runs.run import Run


__all__ = ["Pipeline", "batches", "build", "check", "compare", "load", "run"]


class Pipeline:
    """A pipeline, loaded from a file or built in Python.

    Parameters
    ----------
    name : of the pipeline; or a Config, which then defines all of it
    description, include, params, modules, seed, storage, cluster, compare : as at the top level of a file; ``include``
        may name files whose steps this pipeline uses
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

    def __init__(
        self,
        name: str | Config = "pipeline",
        *,
        description: str | None = None,
        include: Sequence[str | os.PathLike[str]] | None = None,
        params: Mapping[str, Any] | None = None,
        modules: Sequence[Any] | None = None,
        seed: int | None = None,
        storage: Mapping[str, Any] | None = None,
        cluster: Mapping[str, Any] | None = None,
        compare: Mapping[str, Any] | None = None,
        root: str | os.PathLike[str] = ".",
    ) -> None:
        self._config: Config | None = name if isinstance(name, Config) else None
        top = {"name": name, "description": description, "include": include, "params": params, "modules": modules}
        more = {"seed": seed, "storage": storage, "cluster": cluster, "compare": compare}
        self._made = PipelineBuilder({**top, **more}, root) if self._config is None else None

    @property
    def config(self) -> Config:
        """The checked Config.

        Raises
        ------
        ConfigError : listing all errors of a pipeline that was built here
        """
        if self._made is not None:
            return self._made.config
        assert self._config is not None
        return self._config

    # Building

    def step(self, name: str, /, **keys: Any) -> StepReference:
        """Add a step, and return a reference to its value for the steps that need it.

        Parameters
        ----------
        keys : exactly one of ``op``, ``expr``, ``call``, ``command``, and the keys that belong to it, as in a file. A
            value may be a reference, as ``step`` and ``p[…]`` return it; in ``args`` and commands it means the step's
            value. A ``call`` or ``function`` may be a function of an imported module, whose file is then shipped to the
            workers; functions of the running script, lambdas and partials are refused. A list may be a numpy array or a
            ``range``

        Raises
        ------
        ConfigError : if the step exists already, or a value can't be written in a file
        """
        self._building().add("steps", name, keys)
        return StepReference(name)

    def __getitem__(self, text: str) -> StepReference:
        """Return a reference, written as in a file: ``p["tas"]``, ``p["svd.u"]``, ``p["tas[time=0:40]"]``.

        It may also be written in Python: ``p["tas"]["A1B"]``, ``p["tas"]["*"]``, ``p["svd"].u``, and
        ``p["tas"][{"time": slice(0, 40), "alpha": 0.1}]`` for positions along dims and labels by their keys.
        """
        return StepReference(text)

    def output(self, name: str, /, **keys: Any) -> None:
        """Add an output: ``p.output("anomaly", to="zarr", path="anomaly.zarr")``; ``input`` is the name by default."""
        self._building().add("outputs", str(name), keys)

    def expect(self, that: str | StepReference, /, **keys: Any) -> None:
        """Add a check, which a run must pass: ``p.expect("total > 0")``, ``p.expect(p["top"], rows=">= 1")``.

        The name ``check`` is taken by :meth:`check`, which checks the pipeline without running it.
        """
        made = self._building()
        made.add("checks", str(len(made.names("checks"))), {"that": that, **keys})

    def keep(self, *references: str | StepReference) -> None:
        """Make runs return the values of these steps, besides outputs: ``p.keep("tas", p["fit"]["A1B"])``."""
        made = self._building()
        for reference in references:
            made.add("keep", str(len(made.names("keep"))), reference)

    def _building(self) -> PipelineBuilder:
        if self._made is None:
            raise ConfigError(
                f"{self.name!r} is loaded from a file and can't be changed; include the file in a new pipeline: "
                "Pipeline(…, include=[FILE])"
            )
        return self._made

    def to_yaml(self) -> str:
        """Return the text of an equal file: ``pipeline.load(p.to_yaml()) == p``.

        Input paths are absolute, so that the file can be anywhere; a param that a path begins with stays relative, with
        the folder written before it. Included files and ``params`` are filled in; secrets stay ``${secret:NAME}``, and
        defaults of the environment ``${env:NAME:-…}``.

        Raises
        ------
        ConfigError : if the text would be larger than a file may be
        """
        text = yaml_text(with_absolute_paths(self.config))
        if len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
            raise ConfigError(f"{self.name!r} would be a file of more than {MOST_BYTES // 1024} KiB, which is not read")
        return text

    @property
    def name(self) -> str:
        """The name in the file, else the file's stem."""
        return self._made.name if self._made is not None else self.config.name

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the steps, each after the steps that it needs."""
        return tuple(dict.fromkeys(step.step for step in self.config.steps.values()))

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

    def run(self, **options: Any) -> Run:
        """Run it and commit its outputs. See :func:`pipeline.runs.run.run` for the options."""
        from pipeline.runs.run import run as run_config

        return replace(run_config(self.config, **options), draw=_draw)

    def compare(self, **options: Any) -> ComparisonReport:
        """Run the same graph on several back ends. Options: :func:`pipeline.experiments.comparison.compare.compare`."""
        from pipeline.experiments.comparison.compare import compare as compare_config
        from pipeline.report.comparison_json import write_report
        from pipeline.report.html.page import write as write_html
        from pipeline.report.verdicts import ComparisonReport

        result = compare_config(self.config, **options)
        write_report(result)
        write_html(Path(result.folder))
        return ComparisonReport.of(result)

    def explain(self, **options: Any) -> ExplanationReport:
        """Find by experiment why steps do not scale. See :func:`pipeline.experiments.explanation.explain.explain`."""
        from pipeline.experiments.explanation.explain import explain as explain_config
        from pipeline.report.explain_cause_text import ExplanationReport

        return ExplanationReport.of(explain_config(self.config, **options))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pipeline) and self.config == other.config

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        if self._made is not None:
            n_steps, outputs = len(self._made.names("steps")), self._made.names("outputs")
        else:
            n_steps, outputs = len(self.steps), tuple(dict.fromkeys(output.name for output in self.config.outputs))
        return f"<Pipeline {self.name!r}: {count_text(n_steps, 'step')}, outputs: {', '.join(outputs) or 'none'}>"

    def _repr_html_(self) -> str:
        try:
            config = self.config
        except ConfigError as error:  # not yet complete
            return f"<p><b>{html.escape(self.name)}</b></p><pre>{html.escape(str(error))}</pre>"
        rows = "".join(
            f"<tr><td>{html.escape(step.name)}</td><td>{html.escape(step.kind)}</td>"
            f"<td><code>{html.escape(step.function)}</code></td></tr>"
            for step in config.steps.values()
        )
        head = "<tr><th>step</th><th>kind</th><th>function</th></tr>"
        return f"<p><b>{html.escape(self.name)}</b></p><table>{head}{rows}</table>"


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
    sets = _param_nodes(params or {})
    if isinstance(path, str) and "\n" in path:
        return Pipeline(loads(path, root=root or ".", sets=sets))
    return Pipeline(load_config(path, sets=sets, root=root))


def _param_nodes(params: Mapping[str, Any]) -> dict[str, Node]:
    """Return the values that replace params, as YAML nodes."""
    try:
        return {
            name: tree_of(value, Location(f"params[{name!r}]"), os.getcwd(), convert=lambda one, path: one)
            for name, value in params.items()
        }
    except ConfigFault as wrong:
        raise ConfigError([wrong.fault]) from None


def _pipeline_of(source: Pipeline | Config | str | Path) -> Pipeline:
    if isinstance(source, Pipeline):
        return source
    return Pipeline(source) if isinstance(source, Config) else load(source)


def check(source: Pipeline | Config | str | Path, *, data: bool = True, out: str | os.PathLike[str] = ".") -> Plan:
    """Return the plan of a pipeline or of a file."""
    return _pipeline_of(source).check(data=data, out=out)


def build(source: Pipeline | Config | str | Path) -> Graph:
    """Return the task graph of a pipeline or of a file."""
    return _pipeline_of(source).build()


def run(source: Pipeline | Config | str | Path, **options: Any) -> Run:
    """Run a pipeline or a file."""
    return _pipeline_of(source).run(**options)


def compare(source: Pipeline | Config | str | Path, **options: Any) -> ComparisonReport:
    """Compare back ends on a pipeline or a file."""
    return _pipeline_of(source).compare(**options)


def batches(source: Any, batch_size: int, **options: Any) -> Batches:
    """Return the rows of files, of an output or of a step in batches, read ahead by worker processes.

    Parameters
    ----------
    source, batch_size, options : see :func:`pipeline.runs.batches.batches`; ``source`` may be a Pipeline, too
    """
    from pipeline.runs.batches import batches as batches_of

    return batches_of(source.config if isinstance(source, Pipeline) else source, batch_size, **options)
