"""What a task of the user gets instead of the values that other tasks see as well.

Arrays become read-only views, frames shallow copies that pandas copies when they are written to (those of polars and
Arrow share their values, which never change), arrays with labels the same with read-only data; what can't be changed is
passed as it is. Any other value is passed as it is to the only task that gets it, and pickled and unpickled for each of
several: that is what happens to it on the way to another process, so a task sees the same on every back end. What can't
be pickled is shared.
"""

# Rejected: ``copy.deepcopy``, ten times as slow for lists and dicts, and not what a process gets; finding out later
# what was changed, which costs the same and comes too late.

from __future__ import annotations

import copy
import datetime
import decimal
import fractions
import io
import pathlib
import pickle
import re
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import cloudpickle
import numpy as np

from pipeline.graph.file_value import FileValue
from pipeline.graph.graph import Key
from pipeline.graph.importing import is_instance
from pipeline.graph.nodes import GraphNode, dependencies, with_constants
from pipeline.graph.ownership import is_marked, runs_users_code, used_once
from pipeline.graph.segments import Dropped, Segment, SegmentTask

__all__ = ["Isolation", "Keywords", "detached", "fresh", "handed_out", "isolated", "read_only_cure"]

_UNCHANGEABLE = frozenset(
    {
        *(int, float, complex, bool, str, bytes, type(None), type(Ellipsis), range, slice, type, type(NotImplemented)),
        *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType, re.Pattern, uuid.UUID, Dropped, FileValue),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone, decimal.Decimal),
        *(fractions.Fraction, pathlib.PosixPath, pathlib.PurePosixPath),
    }
)
_ARRAYS = frozenset({np.ndarray, np.recarray, np.memmap, np.matrix})
_TIMES = frozenset({"Timestamp", "Timedelta", "NaTType"})
"""Classes of pandas, which is imported by nothing here: a worker without frames starts in half the time."""

_TEXTS = frozenset({"string", "empty", "integer", "floating", "boolean", "decimal", "date", "datetime", "time"})
"""Of a column of objects, as pandas infers it: its objects can't be changed."""

_READ_ONLY = re.compile(r"read-?\s?only|not\s+write?able|assignment destination is a view", re.IGNORECASE)
_CURE = "its arrays are read-only, since other tasks may see them; 'writable: true' on the step gives it copies"


class Keywords(dict[str, Any]):
    """Keyword arguments of a user's function that a task makes for others: each value is an argument by itself."""


class Isolation:
    """Makes what the tasks of one segment get. State: the pickles of values that several of them get.

    Parameters
    ----------
    only_here : whether the inputs of the segment exist for this segment alone

    Attributes
    ----------
    gave_arrays : whether the last task got read-only arrays, which may be in its result
    shared : step and type of values that had to be shared, since they can't be pickled
    """

    def __init__(self, segment: Segment, *, only_here: bool = False) -> None:
        self._own = used_once(t.node for t in segment.tasks) & frozenset(segment.inputs) if only_here else frozenset()
        self._pickles: dict[Key, _Pickled] = {}
        self.gave_arrays = False
        self.shared: set[tuple[str, str]] = set()

    def prepare(self, task: SegmentTask, values: Mapping[Key, Any]) -> tuple[GraphNode, Mapping[Key, Any]]:
        """Return the node to run, with constants of its own, and the values that it gets."""
        node, self.gave_arrays = task.node, False
        if not runs_users_code(node):
            return node, values
        if not is_marked(node):
            node = with_constants(node, lambda value: self._given(task, None, value))
        return node, {key: self._given(task, key, values[key]) for key in dependencies(node)}

    def free(self, key: Key) -> None:
        """Forget a value that no other task of the segment needs."""
        self._pickles.pop(key, None)

    def _given(self, task: SegmentTask, key: Key | None, value: Any) -> Any:
        if type(value) is Keywords:
            return Keywords({name: self._given(task, None, one) for name, one in value.items()})
        if _is_unchangeable(type(value)):
            return value
        if not task.writable and (isinstance(value, np.ndarray) or type(value).__module__.startswith("xarray.")):
            self.gave_arrays = True
        own = key in task.owns or (key in self._own and not task.retries)

        def copied(value: Any) -> Any:
            try:
                pickled = self._pickles[key] if key in self._pickles else _Pickled.of(value)
                if key is not None:
                    self._pickles[key] = pickled
                return pickled.value()
            except Exception:  # noqa: BLE001 - the user's objects may raise anything
                self.shared.add((task.step, type(value).__name__))
                return value

        return _handed_out(value, copied, own, task.writable)


class _Pickled(NamedTuple):
    """A pickle with its large buffers apart, which are the memory of the value itself: each copy copies them once."""

    head: bytes
    buffers: tuple[pickle.PickleBuffer, ...]

    @classmethod
    def of(cls, value: Any) -> _Pickled:
        buffers: list[pickle.PickleBuffer] = []
        try:
            head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        except Exception:  # noqa: BLE001 - what pickle can't do, cloudpickle may
            buffers.clear()
            head = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        return cls(head, tuple(buffers))

    def value(self) -> Any:
        return pickle.loads(self.head, buffers=[bytearray(buffer.raw()) for buffer in self.buffers])


def isolated(
    node: GraphNode, values: Mapping[Key, Any], *, writable: bool = False
) -> tuple[GraphNode, Mapping[Key, Any]]:
    """Return a node with constants of its own and values that it may change, to run it more than once."""
    task = SegmentTask("", node, "", writable=writable)
    return Isolation(Segment(0, "", (task,), (), ())).prepare(task, values)


def handed_out(value: Any, *, writable: bool = False) -> Any:
    """Return what a task of the user gets for a value that others see as well; the value itself if it must be shared.

    Parameters
    ----------
    writable : the task may write to arrays, and gets copies of them
    """
    return _handed_out(value, _copied, False, writable)


def _copied(value: Any) -> Any:
    """Return a copy by pickle; the value itself where that fails."""
    try:
        return _Pickled.of(value).value()
    except Exception:  # noqa: BLE001 - the user's objects may raise anything; a task has said that they are shared
        return value


def _handed_out(value: Any, copied: Callable[[Any], Any], own: bool, writable: bool) -> Any:
    kind = type(value)
    if _is_unchangeable(kind):
        return value
    if kind in _ARRAYS:
        return _array(value, copied, own, writable)
    if kind is np.ma.MaskedArray:
        return _masked(value, copied, own, writable)
    if _is_frame(value):
        plain = own or not _has_objects(value)
        return value.copy(deep=writable) if plain else copied(value)
    if kind in (tuple, frozenset) and all(_is_unchangeable(type(one)) for one in value):
        return value
    if isinstance(value, np.generic):  # a record may be written to, except where it comes out of a pickle
        return value if kind is not np.void else (value if own else copied(value)).copy()
    module = kind.__module__
    if module.startswith("pyarrow."):
        return value
    if is_instance(value, "polars", "DataFrame", "Series"):  # columns can be put in and out, values never change
        return value.clone()
    if is_instance(value, "pandas", "Index"):
        return value.view() if own or not _is_object(value.dtype) or not _holds_objects(value) else copied(value)
    if module.startswith("xarray.core.") and hasattr(value, "dims"):
        found = _labelled(value, own, writable)
        if found is not None:
            return found
    return value if own else copied(value)


def _array(value: Any, copied: Callable[[Any], Any], own: bool, writable: bool) -> Any:
    if value.dtype.hasobject and not own:
        value = copied(value)
    elif writable:
        return value if own and value.flags.writeable else value.copy()
    return value if writable else _view(value)


def _view(value: Any) -> Any:
    """Return a read-only view of an array."""
    view = value.view()
    view.flags.writeable = False
    return view


def _masked(value: Any, copied: Callable[[Any], Any], own: bool, writable: bool) -> Any:
    if writable:
        return value if own else copied(value)
    if value.dtype.hasobject and not own:
        value = copied(value)
    return np.ma.MaskedArray(
        _view(value.data),
        mask=_view(np.ma.getmaskarray(value)),
        copy=False,
        fill_value=value.fill_value,
        hard_mask=value.hardmask,
    )


def _is_unchangeable(kind: type) -> bool:
    return kind in _UNCHANGEABLE or (kind.__module__.startswith("pandas") and kind.__name__ in _TIMES)


def _is_frame(value: Any) -> bool:
    """Whether a value is a frame or a column of pandas, and not of a class derived from them."""
    return is_instance(value, "pandas", "DataFrame", "Series") and type(value).__module__.startswith("pandas")


def _has_objects(value: Any) -> bool:
    """Whether a frame has a column of Python objects that could be changed."""
    if value.ndim == 1:
        return _is_object(value.dtype) and _holds_objects(value)
    return any(_is_object(kind) and _holds_objects(value.iloc[:, i]) for i, kind in enumerate(value.dtypes))


def _is_object(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind == "O"


def _holds_objects(column: Any) -> bool:
    import pandas as pd  # is loaded, since there is a column

    return pd.api.types.infer_dtype(column, skipna=True) not in _TEXTS


def _labelled(value: Any, own: bool, writable: bool) -> Any:
    """Return a DataArray, Dataset or Variable of xarray over read-only data; None if it holds anything but arrays."""
    new = value.copy(deep=writable)
    new.attrs = copy.deepcopy(value.attrs)
    variables = (
        [new.variable, *(c.variable for c in new.coords.values())]
        if hasattr(new, "coords") and hasattr(new, "variable")
        else list(getattr(new, "variables", {"": new}).values())
    )
    for variable in variables:
        inner = variable.variable if hasattr(variable, "variable") else variable
        if inner.dtype.hasobject and not own:
            return None
        if type(inner).__name__ == "IndexVariable":  # can't be changed, but for its name
            continue
        if type(inner.data) is not np.ndarray:
            return None
        if not writable:
            inner.data = _view(inner.data)
    return new


def fresh(value: Any) -> Any:
    """Return a value of the file with its lists and maps made anew, so that changing them changes no other task's.

    Parameters
    ----------
    value : scalars, and lists and maps of them; what tasks made is left as it is
    """
    kind = type(value)
    if kind is dict:
        return {name: fresh(one) for name, one in value.items()}
    if kind is list or kind is tuple:
        return kind([fresh(one) for one in value])
    return dict(value) if kind is Keywords else value


# ---------------------------------------------------------------------------------------------------------------------
# What comes back
# ---------------------------------------------------------------------------------------------------------------------


def detached(result: Any) -> Any:
    """Return the result of a task with copies of the read-only arrays in it, which it was given; without such, itself.

    Else the next task would get them, and could not write to what is in its own list or map.
    """
    if _is_unchangeable(type(result)) or type(result) in _ARRAYS or _is_frame(result):
        return result
    if not any(_read_only(one) for one in _members(result, 3)):
        return result
    file = io.BytesIO()
    try:
        _WithWritableArrays(file, protocol=5).dump(result)
        return pickle.loads(file.getvalue())
    except Exception:  # noqa: BLE001 - the user's objects may raise anything
        return result


class _WithWritableArrays(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles arrays so that they are writable again: pickle itself keeps the flag."""

    def reducer_override(self, value: Any) -> Any:
        return value.copy().__reduce_ex__(5) if _read_only(value) else super().reducer_override(value)


def _read_only(value: Any) -> bool:
    return isinstance(value, np.ndarray) and not value.flags.writeable


def _members(value: Any, depth: int) -> Iterator[Any]:
    """Yield what is in a list, tuple, map or object, to some depth."""
    if isinstance(value, Mapping):
        inner: Any = value.values()
    elif isinstance(value, (list, tuple)):
        inner = value
    else:
        inner = getattr(value, "__dict__", {}).values()
    for one in inner:
        if not _is_unchangeable(type(one)):
            yield one
            if depth:
                yield from _members(one, depth - 1)


def read_only_cure(error: BaseException) -> str:
    """Return what to do where a task failed since its arrays are read-only; empty if it failed otherwise."""
    return (
        _CURE
        if isinstance(error, (ValueError, TypeError, RuntimeError, BufferError)) and _READ_ONLY.search(str(error))
        else ""
    )
