"""A file in Python's hands: load it once, then check, build, run and compare it.

>>> import pipeline
>>> p = pipeline.load("month.yaml")       # doctest: +SKIP
>>> r = p.run(backend="threads")          # doctest: +SKIP
>>> r["anomaly"]                          # doctest: +SKIP
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Config
from pipeline.config import load as load_config

if TYPE_CHECKING:
    from pipeline.comparison import Comparison
    from pipeline.execution import Run
    from pipeline.explanation import Explanation
    from pipeline.graph import Graph
    from pipeline.planning import Plan

__all__ = ["Pipeline", "build", "check", "compare", "load", "run"]


class Pipeline:
    """What a file asks for, with the verbs that can be applied to it. Immutable; safe to share between threads."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def name(self) -> str:
        """Its name: what the file says, or the file's stem."""
        return self.config.name

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of the steps, in an order in which each comes after what it needs."""
        return tuple(dict.fromkeys(step.step for step in self.config.steps.values()))

    def check(self, *, data: bool = True) -> Plan:
        """The plan: a row a step, from metadata only. See :func:`pipeline.planning.plan`."""
        from pipeline.planning import plan

        return plan(self.config, data=data)

    def build(self) -> Graph:
        """The task graph. See :func:`pipeline.steps.build`."""
        from pipeline.steps import build as build_graph

        return build_graph(self.config)

    def run(self, **options: Any) -> Run:
        """Run it and commit its outputs. See :func:`pipeline.execution.run` for the options."""
        from pipeline.execution import run as run_config

        return run_config(self.config, **options)

    def compare(self, **options: Any) -> Comparison:
        """Run the same graph on several back ends. See :func:`pipeline.comparison.compare` for the options."""
        from pipeline.comparison import compare as compare_config
        from pipeline.report import html

        result = compare_config(self.config, **options)
        html.write(Path(result.folder))
        return result

    def explain(self, **options: Any) -> Explanation:
        """Find out by experiment why steps do not scale. See :func:`pipeline.explanation.explain` for the options."""
        from pipeline.explanation import explain as explain_config

        return explain_config(self.config, **options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pipeline) and self.config == other.config

    def __hash__(self) -> int:
        return hash(self.config.name)

    def __repr__(self) -> str:
        outputs = ", ".join(dict.fromkeys(output.name for output in self.config.outputs)) or "none"
        return f"<Pipeline {self.name!r}: {len(self.steps)} steps, outputs: {outputs}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(step.name)}</td><td>{html.escape(step.kind)}</td>"
            f"<td><code>{html.escape(step.function)}</code></td></tr>"
            for step in self.config.steps.values()
        )
        head = "<tr><th>step</th><th>kind</th><th>function</th></tr>"
        return f"<p><b>{html.escape(self.name)}</b></p><table>{head}{rows}</table>"


def load(
    path: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    root: str | Path | None = None,
) -> Pipeline:
    """Read a YAML file.

    Parameters
    ----------
    path : the file
    params : values that replace the file's own, by dotted name: ``{"base.first": 1991}``
    root : the folder that input paths are relative to; the file's own by default

    Raises
    ------
    ConfigError : all faults of the file at once
    """
    sets = {name: json.dumps(value, default=str) for name, value in (params or {}).items()}
    return Pipeline(load_config(path, sets=sets, root=root))


def _taken(source: Pipeline | Config | str | Path) -> Pipeline:
    if isinstance(source, Pipeline):
        return source
    return Pipeline(source) if isinstance(source, Config) else load(source)


def check(source: Pipeline | Config | str | Path, *, data: bool = True) -> Plan:
    """The plan of a pipeline, or of a file."""
    return _taken(source).check(data=data)


def build(source: Pipeline | Config | str | Path) -> Graph:
    """The task graph of a pipeline, or of a file."""
    return _taken(source).build()


def run(source: Pipeline | Config | str | Path, **options: Any) -> Run:
    """Run a pipeline, or a file."""
    return _taken(source).run(**options)


def compare(source: Pipeline | Config | str | Path, **options: Any) -> Comparison:
    """Compare back ends on a pipeline, or on a file."""
    return _taken(source).compare(**options)
