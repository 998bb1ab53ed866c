"""The part of ``pipeline.Pipeline`` that runs nothing: its steps, outputs and checks, loaded or built in Python."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pipeline.config.absolute_paths import with_absolute_paths
from pipeline.config.from_python import StepReference
from pipeline.config.html_table import html_table
from pipeline.config.model import Config, Step
from pipeline.config.python_builder import PipelineBuilder
from pipeline.config.yaml_nodes import MOST_BYTES
from pipeline.config.yaml_writer import yaml_text
from pipeline.errors import ConfigError, Fault
from pipeline.units import count_text

__all__ = ["PipelineDefinition"]


class PipelineDefinition:
    """The steps, outputs and checks of a pipeline. See :class:`pipeline.Pipeline`."""

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
        limits: Mapping[str, int] | None = None,
        cache: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        root: str | os.PathLike[str] = ".",
    ) -> None:
        self._config: Config | None = name if isinstance(name, Config) else None
        top = {"name": name, "description": description, "include": include, "params": params, "modules": modules}
        more: dict[str, Any] = {"seed": seed, "storage": storage, "cluster": cluster, "compare": compare}
        more |= {"limits": limits, "cache": cache}
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

        In a notebook a cell that is run again replaces the steps, outputs and checks that it added before.

        Parameters
        ----------
        keys : exactly one of ``op``, ``expr``, ``call``, ``command``, and the keys that belong to it, as in a file. A
            value may be a reference, as ``step`` and ``p[…]`` return it; in ``args`` and commands it means the step's
            value. A ``call`` or ``function`` may be a function. One of an imported module is imported by the workers,
            which get its file. Any other (of the running script or a notebook, a lambda, a partial, an inner function)
            is sent to them by value, with what it reads: see ``docs/python.md``. A list may be a numpy array or a
            ``range``

        Raises
        ------
        ConfigError : if the step exists already, or a value can't be written in a file
        """
        self._building().add("steps", name, keys)
        return StepReference(name)

    def copy(self) -> Self:
        """Return a pipeline with everything of this one, to which more can be added; this one stays as it is."""
        made = self._made.copy() if self._made is not None else PipelineBuilder.of(self.config)
        new = type(self).__new__(type(self))
        new._config, new._made = None, made
        return new

    def add(self, name: str, /, **keys: Any) -> Self:
        """Return a pipeline with everything of this one and one step more: ``q = p.add("half", expr="tas / 2")``.

        Unlike :meth:`step` it works on a loaded pipeline, too, and this one stays as it is. More steps, outputs and
        checks can be added to the result: ``q.output("half", to="zarr", path="half.zarr")``.

        Parameters
        ----------
        keys : as for :meth:`step`

        Raises
        ------
        ConfigError : as for :meth:`step`
        """
        new = self.copy()
        new.step(name, **keys)
        return new

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
                f"{self.name!r} is loaded from a file and can't be changed; q = p.copy() is one that can, and "
                "q = p.add(NAME, …) has a step more"
            )
        return self._made

    def to_yaml(self) -> str:
        """Return the text of an equal file: ``pipeline.load(p.to_yaml()) == p``.

        Input paths are absolute, so that the file can be anywhere; a param that a path begins with stays relative, with
        the folder written before it. Included files and ``params`` are filled in; secrets stay ``${secret:NAME}``, and
        defaults of the environment ``${env:NAME:-…}``.

        Raises
        ------
        ConfigError : if the text would be larger than a file may be, or a step calls a function that no module has
        """
        faults = [
            Fault(step.location, f"steps.{step.step}", f"calls {name}, a function that is in no module; a file names "
                  "functions of modules: put it into a file, my.py, and import it from there")
            for name in self.config.functions
            for step in self.config.all_steps.values()
            if name in (step.function, getattr(step.parameters, "function", None))
        ]  # fmt: skip
        if faults:
            raise ConfigError(faults)
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
        return tuple(dict.fromkeys(step.step for step in self.config.all_steps.values()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PipelineDefinition) and self.config == other.config

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        if self._made is not None:
            n_steps, outputs = len(self._made.names("steps")), self._made.names("outputs")
        else:
            n_steps, outputs = len(self.steps), tuple(dict.fromkeys(output.name for output in self.config.outputs))
        return f"<Pipeline {self.name!r}: {count_text(n_steps, 'step')}, outputs: {', '.join(outputs) or 'none'}>"

    def _repr_html_(self) -> str:
        title = f"<p><b>{html.escape(self.name)}</b></p>"
        try:
            config = self.config
        except ConfigError as error:  # not yet complete
            return f'{title}<pre style="white-space: pre-wrap">{html.escape(str(error))}</pre>'
        instances: dict[str, list[Step]] = {}
        for step in config.all_steps.values():
            instances.setdefault(step.step, []).append(step)
        rows: list[tuple[str, ...]] = [
            (name, _what(steps[0]), _inputs(steps[0]), str(len(steps))) for name, steps in instances.items()
        ]
        columns: tuple[str, ...] = ("step", "what it does", "from", "instances")
        if len(instances) == len(config.all_steps):
            rows, columns = [row[:3] for row in rows], columns[:3]
        table = html_table(columns, rows, numbers=("instances",))
        paths: dict[str, list[str]] = {}
        for one in config.outputs:
            paths.setdefault(f"{one.name} ({one.to})", []).append(one.path)
        rest = {name: f" and {len(of) - 1} more" if len(of) > 1 else "" for name, of in paths.items()}
        outputs = [f"{name}: {of[0]}{rest[name]}" for name, of in paths.items()]
        more = f"<p>{html.escape(config.description)}</p>" if config.description else ""
        listed = ", ".join(outputs[:_FEW]) + (f", … {len(outputs) - _FEW} more" if len(outputs) > _FEW else "")
        return f"{title}{more}{table}<p>outputs: {html.escape(listed or 'none')}</p>"


_FEW = 8  # outputs that are listed


def _what(step: Step) -> str:
    """Return the op, function, expression or program of a step, on one line."""
    text = " ".join(step.function.split())
    text = text if len(text) <= 60 else f"{text[:59]}…"
    return text if step.kind == "expr" else f"{step.kind} {text}"


def _inputs(step: Step) -> str:
    return ", ".join(dict.fromkeys(reference.step for reference in step.references()))
