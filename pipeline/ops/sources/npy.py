"""Npy files: their heads, and some of their values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from pipeline.errors import DataError
from pipeline.ops.sources.paths import is_remote, opened

__all__ = ["npy_head", "read_npy"]


def npy_head(path: str, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran's order, dtype; the file then stands at the first value."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(file)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: is no npy file ({error})") from error


def read_npy(path: str, slab: tuple[int | slice, ...], options: Mapping[str, Any]) -> Any:
    """Some of the values of a file: of a local one its pages, of a remote one the rows that hold them."""
    with opened(path, options) as file:
        shape, backwards, dtype = npy_head(path, file)
        if not math.prod(shape):
            return np.empty(shape, dtype)[slab]
        begin = file.tell()
        if not is_remote(path) and shape:
            return np.memmap(path, dtype, "r", begin, shape, "F" if backwards else "C")[slab]
        if backwards or not shape:
            return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if backwards else "C")[slab]
        first = slab[0]
        start, stop = (first.start, first.stop) if isinstance(first, slice) else (first, first + 1)
        width = math.prod(shape[1:]) * dtype.itemsize
        file.seek(begin + start * width)
        rows = np.frombuffer(file.read((stop - start) * width), dtype).reshape(-1, *shape[1:])
        return rows[(slice(None) if isinstance(first, slice) else 0, *slab[1:])]
