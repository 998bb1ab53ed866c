"""The ops of other distributions: what their entry points of the group ``pipeline.ops`` name.

They are looked up when an op is asked for that is none of ours, or when all are listed: a file that uses only our ops
does not pay for them, and cannot be broken by them. What can't be used is told where it may have been meant.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.config.signatures.base import COMMON_KEYS, Signature
from pipeline.errors import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


__all__ = ["GROUP", "Installed", "Ops", "Unusable", "defined_in"]

GROUP = "pipeline.ops"
_KINDS = ("array", "frame", "items", "value", "parts")
_STEPS = ("call", "command", "expr")  # kinds of steps that are no ops: one of them may have been meant

# what people write from numpy, pandas and xarray under another name: how it is written here
_HABITS = {
    name: f"; {cure}"
    for cure, names in {
        "that is op 'from_netcdf'": ("open_dataset", "open_mfdataset", "read_netcdf"),
        "that is op 'from_zarr'": ("open_zarr", "read_zarr"),
        "that is op 'from_npy'": ("load_npy", "read_npy"),
        "that is op 'merge'": ("join",),
        "that is op 'sort_values'": ("sort", "order_by"),
        "that is op 'filter'": ("query",),
        "that is op 'drop_duplicates'": ("unique", "distinct"),
        "that is op 'matmul'": ("dot",),
        "that is op 'coarsen'": ("downsample",),
        "that is op 'nsmallest' or 'nlargest', since rows have no order": ("head", "tail", "limit"),
        "that is op 'groupby' with agg": ("agg", "aggregate", "pivot_table"),
        "positions are picked where the step is named: x[time=0:10]": ("isel", "iloc"),
        "a function of yours is a call, with over one an item; op 'map_blocks' and 'map_partitions' call it chunk by "
        "chunk": ("map", "apply", "apply_ufunc", "pipe"),
    }.items()
    for name in names
}
"""Name -> ``; …``."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_HOME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

Classes = tuple[type[Signature], ...]


@dataclass(frozen=True)
class Unusable:
    """An op of another distribution, or a whole entry point, that can't be used.

    Parameters
    ----------
    name : of the op, or of the entry point where no op is known
    distribution : its name and version
    reason : what is wrong with it
    """

    name: str
    distribution: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name!r} of the distribution {self.distribution} can't be used: {self.reason}"


class _NoOp(Exception):
    """What an entry point names is no op; the text says why."""


@dataclass(frozen=True)
class Installed:
    """What the other distributions bring: the classes of each op, and what can't be used."""

    classes: Mapping[str, Classes]
    unusable: tuple[Unusable, ...]


class Ops(Mapping[str, Classes]):
    """Op name -> its classes, one for each kind of input: ours, then those of other distributions.

    Parameters
    ----------
    own : those that are there without looking
    """

    def __init__(self, own: Mapping[str, Classes]) -> None:
        self._own = own

    @functools.cached_property
    def installed(self) -> Installed:
        """What other distributions bring, looked up once a process."""
        from importlib.metadata import entry_points

        return _collected(entry_points(group=GROUP), self._own.keys())

    def __getitem__(self, name: str) -> Classes:
        return self._own[name] if name in self._own else self.installed.classes[name]

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self.installed.classes

    def __iter__(self) -> Iterator[str]:
        return iter([*self._own, *self.installed.classes])

    def __len__(self) -> int:
        return len(self._own) + len(self.installed.classes)

    def missing(self, name: str) -> str:
        """What there is to say of a name that no op has: which one may have been meant, or why it can't be used."""
        hint = _HABITS.get(name, "") or nearest(name, [*self, *_STEPS])
        unusable = self.installed.unusable
        told = [one for one in unusable if one.name == name]
        if not told and not hint:
            told = [one for one in unusable if one.name not in self]
        return f"there is no op {name!r}" + ("".join(f"; {one}" for one in told) or hint)


def defined_in(*modules: ModuleType) -> dict[str, Classes]:
    """Every class of the modules, or of modules below them, that names an op of its own; in the order written."""
    found: dict[str, Classes] = {}
    for module in modules:
        for cls in vars(module).values():
            if _is_op(cls) and f"{cls.__module__}.".startswith(f"{module.__name__}."):
                found[cls.op] = (*found.get(cls.op, ()), cls)
    return found


def _is_op(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Signature) and "op" in vars(cls)


def _collected(points: Iterable[EntryPoint], taken: Collection[str]) -> Installed:
    bringers: dict[str, dict[str, Classes]] = {}
    unusable: list[Unusable] = []
    for point in sorted(points, key=lambda p: (_distribution(p), p.name)):
        said = _distribution(point)
        try:
            named = _named(point)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's module may raise anything
            reason = str(error) if isinstance(error, _NoOp) else f"{type(error).__name__}: {error}"
            unusable.append(Unusable(point.name, said, f"{point.value!r}: {reason}"))
            continue
        for name, classes in named.items():
            by = bringers.setdefault(name, {})
            by[said] = tuple(dict.fromkeys((*by.get(said, ()), *classes)))
    made: dict[str, Classes] = {}
    for name, by in bringers.items():
        if name in taken:
            unusable += [Unusable(name, said, "Pipeline has an op of that name; give it another") for said in by]
        elif len(by) > 1:
            unusable += [
                Unusable(name, said, f"{' and '.join(other for other in by if other != said)} brings one, too")
                for said in by
            ]
        else:
            (made[name],) = by.values()
    return Installed(made, tuple(unusable))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "unknown"


def _named(point: EntryPoint) -> dict[str, Classes]:
    """The ops of an entry point: the class that it names, or all those of the module that it names."""
    loaded = point.load()
    if isinstance(loaded, ModuleType):
        found = defined_in(loaded)
        if not found:
            raise _NoOp("the module has no subclass of pipeline.config.signatures.Signature with an op")
    elif _is_op(loaded):
        found = {loaded.op: (loaded,)}
    else:
        raise _NoOp("it is no subclass of pipeline.config.signatures.Signature with an op, and no module of them")
    for classes in found.values():
        for cls in classes:
            _check(cls)
    return found


def _check(cls: type[Signature]) -> None:
    """Refuse a class that does not say all that a class must.

    Raises
    ------
    _NoOp : naming what is missing, or can't be
    """
    lacking = [name for name in ("group", "gives", "home") if not hasattr(cls, name)]
    if lacking:
        raise _NoOp(f"{cls.__name__} lacks {', '.join(lacking)}")
    if not _NAME.fullmatch(cls.op):
        raise _NoOp(f"{cls.__name__}.op is {cls.op!r}, which is no name: letters, digits and _")
    if cls.gives not in _KINDS:
        raise _NoOp(f"{cls.__name__}.gives is {cls.gives!r}; kinds: {', '.join(_KINDS)}")
    if not _HOME.fullmatch(cls.function_path()):
        raise _NoOp(f'{cls.__name__}.home is {cls.home!r}; write "package.module:function"')
    cls.model_rebuild()
    keys = {"op", "expr", "call", "command", *COMMON_KEYS}
    clashes = [name for name in cls.model_fields if name in keys or name in cls.inputs]
    clashes += [name for name in cls.inputs if name in keys - {"input"}]
    if clashes:
        raise _NoOp(f"{cls.__name__} has a parameter {clashes[0]!r}, which is a key of every step; rename it")
