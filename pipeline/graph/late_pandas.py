"""pyarrow without pandas, until somebody imports pandas.

pyarrow imports pandas when it makes a value of a Python object, which takes longer than a short run. It asks once
whether pandas is there and keeps the answer: here it asks while pandas is hidden, and again when pandas has been
imported. Some calls import it all the same, and are not used in tasks of frames: those that find the type by
themselves (``pa.array([1])``, ``pc.add(x, 1)``: give the type, ``pa.scalar(1, pa.int64())``), ``to_numpy``,
``pq.read_table`` and ``Table.group_by``.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["delay_pandas", "numbers_of", "python_value"]


def delay_pandas() -> None:
    """Keep pyarrow from importing pandas by itself; nothing is changed in a process that has imported it."""
    if "pandas" in sys.modules or any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    pa.lib._pandas_api.have_pandas  # noqa: B018 - looks for it
    finder.hides = False


class _Finder:
    """Hides pandas at first, then finds it as the other finders do, and informs pyarrow once it is imported."""

    hides = True

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "pandas":
            return None
        if self.hides:
            raise ModuleNotFoundError(name)
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
        return spec


class _Loader:
    """Another loader; what else is asked of it, that one answers."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        try:
            pa.lib._pandas_api.pd  # noqa: B018 - looks again
        except ImportError:  # a pandas that is too old for it
            return


def python_value(value: pa.Scalar) -> Any:
    """Return the value in Python; a time that is finer than microseconds as pandas has it, which is imported for it."""
    try:
        return value.as_py()
    except ValueError:
        importlib.import_module("pandas")
        return value.as_py()


def numbers_of(column: pa.Array | pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """Return numbers or truth values, none of them missing, in numpy; ``to_numpy`` would import pandas.

    >>> numbers_of(pa.array([1, 2], pa.int8()))
    array([1, 2], dtype=int8)
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_boolean(array.type):
        return np.from_dlpack(array.cast(pa.uint8())).view(np.bool_)
    return np.from_dlpack(array)
