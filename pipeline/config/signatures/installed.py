"""Ops of other distributions, found by their entry points of the group ``pipeline.ops``; ``Ops``, the mapping of all.

Entry points are loaded only when a file uses an op that is not ours, or when all ops are listed. A file that uses our
ops alone does not wait for other distributions and cannot be broken by them.
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


__all__ = ["GROUP", "InstalledOps", "Ops", "UnusableOp", "defined_in"]

GROUP = "pipeline.ops"
_KINDS = ("array", "frame", "items", "value", "parts")
_STEP_KEYS = ("call", "command", "expr")  # not ops, but offered as "did you mean"

# names in SQL, numpy, pandas and xarray -> what to write here
_HINTS = {
    name: f"; {hint}"
    for hint, names in {
        "use op 'from_netcdf'": ("open_dataset", "open_mfdataset", "read_netcdf"),
        "use op 'from_zarr'": ("open_zarr", "read_zarr"),
        "use op 'from_npy'": ("load_npy", "read_npy"),
        "use op 'merge'": ("join", "left_join", "inner_join", "outer_join", "cross_join"),
        "use op 'merge' with how: anti": ("except", "minus", "anti_join"),
        "use op 'merge' with how: semi": ("intersect", "semi_join", "exists"),
        "use op 'concat'": ("union_all", "append", "bind_rows"),
        "use op 'concat', then drop_duplicates if no row may repeat": ("union",),
        "steps are computed when an output, a check or keep needs them": ("collect", "compute", "persist"),
        "use op 'concat' of frames, 'concatenate' of arrays": ("vstack",),
        "use op 'sort_values'": ("sort", "order_by", "orderby", "arrange"),
        "use op 'filter'": ("query", "where", "having", "between", "isin", "like"),
        "use op 'assign'": ("with_columns", "with_column", "mutate", "eval"),
        "use op 'assign', with where(c, a, b)": ("case", "when"),
        "use op 'assign', with duration('5min') or duration(months=3)": ("interval",),
        "use op 'assign', with slice(s, 0, 3)": ("substring", "substr"),
        "use op 'astype'": ("cast", "convert_dtypes"),
        "use op 'select', with the columns that stay": ("drop", "project"),
        "use op 'drop_duplicates'": ("unique", "distinct"),
        "use op 'matmul'": ("dot",),
        "use op 'coarsen'": ("downsample",),
        "use op 'head', or sort_values with n": ("limit", "top"),
        "use op 'nsmallest' or 'nlargest', since rows have no order": ("tail",),
        "use op 'groupby' with agg": ("agg", "aggregate", "group_by", "summarise", "summarize"),
        "use op 'groupby' with agg: {n: count()}": ("count", "value_counts"),
        "use op 'groupby' with agg: {n: nunique(x)}": ("nunique", "n_unique"),
        "use op 'groupby' with agg: {c: corr(x, y)}": ("corr",),
        "use op 'mean', of a frame groupby with agg: {m: mean(x)}": ("avg",),
        "use op 'pivot'": ("pivot_table", "crosstab", "unstack", "pivot_wider"),
        "use op 'dummies'": ("get_dummies", "one_hot"),
        "use op 'cut'": ("bucket",),
        "use op 'cut', whose bins are numbers: a groupby gives quantile(x, 0.25)": ("qcut",),
        "use op 'melt'": ("unpivot", "wide_to_long"),
        "use op 'explode'": ("flatten", "unwind"),
        "use op 'merge_asof'": ("asof", "asof_join", "join_asof"),
        "use op 'window', of an array x[time=1:] - x[time=:-1]": ("diff",),
        "use op 'window'": ("lag", "lead", "rank", "row_number", "over", "partition_by", "shift", "cumcount"),
        "use op 'window', whose aggregates are those of the group": ("transform",),
        "use op 'read_csv'": ("read_table", "scan_csv", "from_csv"),
        "use op 'read_parquet'": ("scan_parquet", "from_parquet"),
        "use op 'read_json'": ("scan_ndjson", "read_ndjson", "read_jsonl", "from_json"),
        "use op 'read_feather'": ("read_ipc", "scan_ipc", "read_arrow"),
        "use op 'read_sql'": ("read_database", "read_sql_table", "read_sql_query"),
        "write an output: outputs: {STEP: {to: csv, path: …}}": ("to_csv", "write_csv", "save"),
        "write an output: outputs: {STEP: {to: parquet, path: …}}": ("to_parquet", "write_parquet"),
        "write an output: outputs: {STEP: {to: json, path: …}}": ("to_json", "write_json"),
        "a frame has no index": ("reset_index",),
        "write positions in the reference to a step: x[time=0:10]": ("isel", "iloc"),
        "to apply a function of yours write a call step, with over for each item; op 'map_blocks' or "
        "'map_partitions' for each chunk": ("map", "apply", "apply_ufunc", "pipe"),
    }.items()
    for name in names
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_HOME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

Classes = tuple[type[Signature], ...]


@dataclass(frozen=True)
class UnusableOp:
    """An op of another distribution, or an entry point, that can't be used.

    Parameters
    ----------
    name : name of the op; of the entry point if it could not be loaded
    distribution : name and version
    reason : what is wrong with it
    """

    name: str
    distribution: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name!r} of the distribution {self.distribution} can't be used: {self.reason}"


class _InvalidOpError(Exception):
    """An entry point does not name a valid op class; the text is the reason."""


@dataclass(frozen=True)
class InstalledOps:
    """The ops of other distributions: the classes of each op, and what can't be used."""

    classes: Mapping[str, Classes]
    unusable: tuple[UnusableOp, ...]


class Ops(Mapping[str, Classes]):
    """Op name -> its classes, one for each kind of input: ours, then those of other distributions.

    Parameters
    ----------
    own : our ops; entry points are loaded only for a name that is not among them
    """

    def __init__(self, own: Mapping[str, Classes]) -> None:
        self._own = own

    @functools.cached_property
    def installed(self) -> InstalledOps:
        """The ops of other distributions, looked up once per process."""
        from importlib.metadata import entry_points  # slow to import, and a file of our own ops does not need it

        return _load(entry_points(group=GROUP), self._own.keys())

    def __getitem__(self, name: str) -> Classes:
        return self._own[name] if name in self._own else self.installed.classes[name]

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self.installed.classes

    def __iter__(self) -> Iterator[str]:
        return iter([*self._own, *self.installed.classes])

    def __len__(self) -> int:
        return len(self._own) + len(self.installed.classes)

    def unknown_message(self, name: str) -> str:
        """Return the message for a name that is not an op: a similar name, or why the op of that name can't be used."""
        hint = _HINTS.get(name.casefold(), "") or nearest(name, [*self, *_STEP_KEYS])
        unusable = self.installed.unusable
        reasons = [op for op in unusable if op.name == name]
        if not reasons and not hint:
            reasons = [op for op in unusable if op.name not in self]
        return f"there is no op {name!r}" + ("".join(f"; {op}" for op in reasons) or hint)


def defined_in(*modules: ModuleType) -> dict[str, Classes]:
    """Return the op classes that the modules, or modules below them, define; in the order written."""
    found: dict[str, Classes] = {}
    for module in modules:
        for cls in vars(module).values():
            if _is_op(cls) and f"{cls.__module__}.".startswith(f"{module.__name__}."):
                found[cls.op] = (*found.get(cls.op, ()), cls)
    return found


def _is_op(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, Signature) and "op" in vars(cls)


def _load(points: Iterable[EntryPoint], own: Collection[str]) -> InstalledOps:
    """Load entry points; an op whose name is among ``own``, or that two distributions provide, can't be used."""
    providers: dict[str, dict[str, Classes]] = {}
    unusable: list[UnusableOp] = []
    for point in sorted(points, key=lambda p: (_distribution(p), p.name)):
        distribution = _distribution(point)
        try:
            loaded = _load_ops(point)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a module of another distribution may raise anything
            reason = str(error) if isinstance(error, _InvalidOpError) else f"{type(error).__name__}: {error}"
            unusable.append(UnusableOp(point.name, distribution, f"{point.value!r}: {reason}"))
            continue
        for name, classes in loaded.items():
            by = providers.setdefault(name, {})
            by[distribution] = tuple(dict.fromkeys((*by.get(distribution, ()), *classes)))
    usable: dict[str, Classes] = {}
    for name, by in providers.items():
        if name in own:
            unusable += [UnusableOp(name, d, "Pipeline has an op of this name; rename yours") for d in by]
        elif len(by) > 1:
            unusable += [
                UnusableOp(name, d, f"{' and '.join(other for other in by if other != d)} also provides one")
                for d in by
            ]
        else:
            (usable[name],) = by.values()
    return InstalledOps(usable, tuple(unusable))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "unknown"


def _load_ops(point: EntryPoint) -> dict[str, Classes]:
    """Load the op class that an entry point names, or all op classes of the module that it names."""
    loaded = point.load()
    if isinstance(loaded, ModuleType):
        found = defined_in(loaded)
        if not found:
            raise _InvalidOpError("the module has no subclass of pipeline.config.signatures.Signature with an op")
    elif _is_op(loaded):
        found = {loaded.op: (loaded,)}
    else:
        raise _InvalidOpError(
            "it is neither a subclass of pipeline.config.signatures.Signature with an op, nor a module that has one"
        )
    for classes in found.values():
        for cls in classes:
            _check(cls)
    return found


def _check(cls: type[Signature]) -> None:
    """Check that an op class is complete.

    Raises
    ------
    _InvalidOpError : naming what is missing or invalid
    """
    lacking = [name for name in ("family", "gives", "home") if not hasattr(cls, name)]
    if lacking:
        raise _InvalidOpError(f"{cls.__name__} lacks {', '.join(lacking)}")
    if not _NAME.fullmatch(cls.op):
        raise _InvalidOpError(f"{cls.__name__}.op is {cls.op!r}; a name has letters, digits and _ only")
    if cls.gives not in _KINDS:
        raise _InvalidOpError(f"{cls.__name__}.gives is {cls.gives!r}; kinds: {', '.join(_KINDS)}")
    if not _HOME.fullmatch(cls.function_path()):
        raise _InvalidOpError(f'{cls.__name__}.home is {cls.home!r}; write "package.module:function"')
    cls.model_rebuild()
    keys = {"op", "expr", "call", "command", *COMMON_KEYS}
    clashes = [name for name in cls.model_fields if name in keys or name in cls.inputs]
    clashes += [name for name in cls.inputs if name in keys - {"input"}]
    if clashes:
        raise _InvalidOpError(f"{cls.__name__} has a parameter {clashes[0]!r}, which is a key of every step; rename it")
