"""The Config: its steps, outputs and checks, and what they refer to.

A step of the file becomes one :class:`Step` for each instance (``matrix``), with every ``${…}`` replaced whose value is
known before the run, every reference resolved to instances, and every expression parsed. Nothing later reads YAML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pipeline.config.secret_values import masked
from pipeline.config.yaml_nodes import Node
from pipeline.errors import Location

__all__ = ["Cache", "Check", "Command", "Config", "ItemKey", "Output", "Over", "Reference", "Step", "Template"]


@dataclass(frozen=True)
class Reference:
    """A reference to instances of a step, or to a part or positions of their values.

    Parameters
    ----------
    step : the step's name in the file
    instances : names of the instances; one, or several where they are gathered
    gathered : the matrix keys gathered along (``bias[*]``), in the step's order; empty: a single value
    labels : for each instance its values of ``gathered``
    part : ``u`` of ``svd.u``, ``best.alpha`` of ``search.best.alpha``; empty: the whole
    picks : positions along dims, in the order written; ``(dim, 3)`` drops the dim, ``(dim, (0, 40))`` is half-open,
        None for an open end
    text : as it is written
    """

    step: str
    instances: tuple[str, ...]
    gathered: tuple[str, ...] = ()
    labels: tuple[tuple[Any, ...], ...] = ()
    part: str = ""
    picks: tuple[tuple[str, int | tuple[int | None, int | None]], ...] = ()
    text: str = ""
    location: Location = field(default=Location(), compare=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the part, from the step inwards; empty: the whole."""
        return tuple(self.part.split(".")) if self.part else ()


@dataclass(frozen=True)
class ItemKey:
    """``${alpha}`` where ``alpha`` is a key of the step's own ``over``: one value a call, unknown until run time."""

    name: str
    path: tuple[str, ...] = ()  # ${point.x}: into a map


@dataclass(frozen=True)
class Template:
    """Text with values that are unknown until run time: its pieces, in order, to be joined."""

    pieces: tuple[str | Reference | ItemKey, ...]


@dataclass(frozen=True)
class Over:
    """What a call is mapped over.

    Parameters
    ----------
    axes : name -> the values, or a reference to items, or to a value that is a list; the first is slowest. Empty when
        ``maps`` is given
    maps : one map of keywords a call (starmap): the maps, or a reference to items or a value that is a list of maps
    names : with a reference as ``maps``, the keywords of each of its lists; empty: they are maps
    """

    axes: tuple[tuple[str, tuple[Any, ...] | Reference], ...] = ()
    maps: tuple[Mapping[str, Any], ...] | Reference | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """A program to be run for an instance, or for each of its items.

    Parameters
    ----------
    argv : the program and its arguments: texts, numbers, :class:`Reference`, :class:`ItemKey` or :class:`Template`
    cwd : the folder that it runs in; empty: a new one for each task
    env : variables on top of the worker's; values as in ``argv``
    stdin : the key of ``over`` whose item it reads; None: it reads the input ``stdin``, or nothing
    files : part -> path of a file that it writes, below that folder
    check : whether a return code other than 0 is a failure
    """

    argv: tuple[Any, ...]
    cwd: str = ""
    env: Mapping[str, Any] = field(default_factory=dict)
    stdin: ItemKey | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    check: bool = True


@dataclass(frozen=True)
class Step:
    """One instance of a step.

    Parameters
    ----------
    name : of the instance: ``fit``, ``fit[t2m]``, ``fit[alpha=0.1,fold=2]`` (a single matrix key shows its label alone)
    step : the step's name in the file
    matrix : its matrix keys, inherited and own, in order, with their values
    kind : which of the four it is
    function : name of the op, ``module:function`` of a call, the program of a command without its folder,
        the text of an expr
    inputs : role -> the references it holds, in order. op: the roles of its signature (``input``, ``left``, ``right``,
        ``weights``, ``like``); expr: one role a name, as it is written in the expression; call: ``input``; command:
        ``stdin``
    names : of a role that holds a map: the name of each of its references
    parameters : op: an instance of its class in ``signatures.py``, whose expression fields are
        :class:`pipeline.config.expressions.expression.Expression` with references bound; else None
    expression : of an expr
    args : keyword arguments of a call, with a :class:`Reference`, :class:`ItemKey` or :class:`Template` at any depth
    command : the program of a command
    parts : names of the parts that the function returns, or that the command makes
    seed : whether the function gets ``seed=``
    checkpoint : whether its value is kept for later runs
    code_version : a number that stands for the code of its function or program; None: what is read of the code
    depends_on : absolute paths of files and folders that its function or program reads by itself
    uses : names of the limits of the file that each task has a place of while it runs, in ascending order
    writable : whether the function gets copies of arrays, which it may write to
    frames : which frames the function gets
    locations : key of the step -> its place in the file
    """

    name: str
    step: str
    kind: Literal["op", "expr", "call", "command"]
    function: str
    matrix: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, tuple[Reference, ...]] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parameters: Any = None
    expression: Any = None
    args: Mapping[str, Any] = field(default_factory=dict)
    command: Command | None = None
    over: Over | None = None
    batch: int | None = None
    parts: tuple[str, ...] = ()
    seed: bool = False
    checkpoint: bool = False
    code_version: int | None = None
    depends_on: tuple[str, ...] = ()
    retries: int = 0
    timeout: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    pure: bool = True
    writable: bool = False
    frames: Literal["pandas", "arrow", "polars"] = "pandas"
    on_error: Literal["stop", "drop"] = "stop"
    location: Location = field(default=Location(), compare=False)
    locations: Mapping[str, Location] = field(default_factory=dict, compare=False)

    def references(self) -> tuple[Reference, ...]:
        """Return every reference of the instance, at any depth, without repeats, in a fixed order."""
        held = (self.inputs, self.expression, self.parameters, self.over, self.args, self.command)
        return tuple(dict.fromkeys(_found(held)))


_SCALARS = frozenset((str, int, float, bool, type(None)))


def _found(value: Any) -> Iterator[Reference]:
    """Find the references in a value, at any depth."""
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, str | int | float | None):
        return
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _found(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            if type(inner) not in _SCALARS:  # of 100,000 values of an over, most are
                yield from _found(inner)
    elif isinstance(value, Template):
        yield from _found(value.pieces)
    elif isinstance(value, Over):
        yield from _found((value.axes, value.maps))
    elif isinstance(value, Command):
        yield from _found((value.argv, value.env))
    elif hasattr(value, "keywords"):  # the parameters of an op
        yield from _found(value.keywords())
    elif hasattr(value, "references"):  # an expression
        yield from _found(value.references)


@dataclass(frozen=True)
class Output:
    """One output of one instance: ``path`` is relative to the output folder, with its matrix keys replaced.

    ``plot`` is empty, or has the keys of a picture: ``plot``, ``x``, ``y``, ``by``, ``title``.
    """

    name: str
    input: Reference
    to: str
    path: str
    matrix: Mapping[str, Any] = field(default_factory=dict)
    partition_by: tuple[str, ...] = ()
    files: int | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    mode: Literal["replace", "append"] = "replace"
    options: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    plot: Mapping[str, Any] = field(default_factory=dict)
    location: Location = field(default=Location(), compare=False)
    path_location: Location = field(default=Location(), compare=False)

    @property
    def writer(self) -> str:
        """Return the name of the owner of its tasks: ``write x``, ``write x[A1B]``."""
        return f"write {self.name}" + (f"[{','.join(map(str, self.matrix.values()))}]" if self.matrix else "")


@dataclass(frozen=True)
class Check:
    """A condition that the results must meet.

    ``that`` is a reference (frames, whole values) or an expression with bound references. With neither ``approx``,
    ``equals_csv``, ``rows`` nor ``columns`` it must be true.
    """

    that: Any
    text: str = field(compare=False)
    approx: float | None = None
    abs: float | None = None
    rel: float | None = None
    equals_csv: str | None = None
    sep: str = ","
    rows: str | None = None
    columns: Mapping[str, str] | None = None
    location: Location = field(default=Location(), compare=False)

    def references(self) -> tuple[Reference, ...]:
        """Return the references in its condition."""
        return tuple(_found(self.that))


@dataclass(frozen=True)
class Cache:
    """The folder where values of steps are kept for later runs, and what may be in it at the end of a run.

    Parameters
    ----------
    folder : absolute path
    bytes, entries, age : the most bytes, values, and seconds since the last use of one; None: no limit of the file
    """

    folder: str
    bytes: int | None = None
    entries: int | None = None
    age: float | None = None


@dataclass(frozen=True)
class Config:
    """A whole file, ready to be built. Two are equal if they ask for the same, wherever it is written.

    Parameters
    ----------
    name : of the pipeline
    root : the folder that input paths are relative to
    steps : the instances by name that are computed, each after all that it refers to; see :meth:`used`
    all_steps : the same of all instances of the file
    included : names of the steps that come from included files
    modules : what ``call`` may import: importable names, and paths of files and folders (absolute) to ship
    limits : name -> how many tasks that use it may run at once
    cache : where the values of all steps are kept for later runs; None: nowhere
    keep : instances whose values the run must return, besides outputs and checks
    files : absolute paths of what was read to load it: the file, included files, params files, ``${file:…}``
    absent : instances that do not exist because of ``when``, with the reason
    warnings : about what is allowed but probably not meant
    secrets : the values of ``${secret:…}``, to be masked in everything that is printed or written about a run
    functions : those that were given as objects, which no module has: name, as ``function`` of a step -> the function
    tree : the file itself, with its includes and changed params, and every ``${…}`` as it is written
    """

    name: str
    root: str = field(compare=False)
    steps: Mapping[str, Step]
    outputs: tuple[Output, ...] = ()
    checks: tuple[Check, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    shipped: tuple[str, ...] = ()
    seed: int = 0
    keep: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    cache: Cache | None = None
    storage: Mapping[str, Any] = field(default_factory=dict)
    cluster: Mapping[str, Any] = field(default_factory=dict)
    compare: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    source: str = field(default="", compare=False)
    text: str = field(default="", compare=False)
    files: tuple[str, ...] = field(default=(), compare=False)
    absent: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    secrets: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict, repr=False)
    tree: Node = field(default_factory=lambda: Node(Location(), {}), repr=False, compare=False)
    all_steps: Mapping[str, Step] = field(default_factory=dict, repr=False)
    included: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    @property
    def unused(self) -> tuple[str, ...]:
        """The instances that are not computed, since nothing that is computed needs them."""
        return tuple(name for name in self.all_steps if name not in self.steps)

    def used(self) -> Config:
        """Return the Config with the steps that lead to an output, a check or ``keep``.

        Without outputs the last steps are computed as well: those that no step needs. Steps with effects outside
        (``pure: false``) always are. Steps of included files are not, unless the file has nothing else to compute.
        """
        references = [output.input for output in self.outputs]
        references += [reference for check in self.checks for reference in check.references()]
        wanted = [*self.keep, *(name for reference in references for name in reference.instances)]
        own = [step for step in self.all_steps.values() if step.step not in self.included]
        own = own or ([] if wanted else list(self.all_steps.values()))
        wanted += [step.name for step in own if not step.pure]
        if not self.outputs:
            needed = {name for s in self.all_steps.values() for r in s.references() for name in r.instances}
            wanted += [step.name for step in own if step.name not in needed]
        return replace(self, steps=self._needed(wanted))

    def only(self, instances: tuple[str, ...]) -> Config:
        """Return the Config with these instances as its only results, and without the steps that they don't need."""
        return replace(self, steps=self._needed(instances), outputs=(), checks=(), keep=instances)

    def _needed(self, instances: Iterable[str]) -> dict[str, Step]:
        """Return these instances and all that they need, in the order of the file."""
        needed: set[str] = set()
        stack = list(instances)
        while stack:
            name = stack.pop()
            if name not in needed and name in self.all_steps:
                needed.add(name)
                references = self.all_steps[name].references()
                stack += [instance for reference in references for instance in reference.instances]
        return {name: step for name, step in self.all_steps.items() if name in needed}

    def masked(self, value: Any) -> Any:
        """Return texts, at any depth, with ``***`` for each secret; a secret of one to three letters is not masked."""
        return masked(value, self.secrets)
