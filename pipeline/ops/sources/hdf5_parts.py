"""Parts of an HDF5 file by h5py alone: its links, types, attributes, dims and values."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py import h5, h5a, h5d, h5f, h5g, h5i, h5p, h5r, h5s, h5t

from pipeline.ops.sources.array_records import json_text

__all__ = [
    "CLASSES",
    "Attribute",
    "DiffersError",
    "attribute_of",
    "chunks_of",
    "compared",
    "is_unlimited",
    "links_of",
    "numbers_of",
    "opened_hdf5",
    "place_of",
    "require",
    "scales_of",
    "type_of",
    "values_of",
]

Values = np.ndarray[Any, Any]

_DECODING = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "dtype", "units")
"""Attributes by which xarray decodes numbers."""

CLASSES = (h5t.INTEGER, h5t.FLOAT, h5t.STRING)
"""Classes of types that are compared; others are for xarray."""


class DiffersError(Exception):
    """A file is not made as the pattern is, or as any pattern can be."""


@dataclass(frozen=True)
class Attribute:
    """An attribute: its type in the file, encoded; its value as bytes, and as the JSON of a record."""

    type: bytes
    shape: tuple[int, ...]
    value: bytes
    text: str


def require(condition: bool) -> None:
    if not condition:
        raise DiffersError


def numbers_of(path: str, group: str, name: str, slab: tuple[int | slice, ...]) -> tuple[Values, dict[str, Any]] | None:
    """Return a part of a variable, as it is stored, and the attributes by which it is decoded.

    None, where that is for xarray: there is no such variable, it has no numbers, or attributes of other kinds. For
    xarray opening a file takes several times as long, since it looks at all variables.
    """
    with h5py.File(path, "r") as file:
        found = file.get(f"{group.strip('/')}/{name}")
        if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iuf" or found.shape is None:
            return None
        if h5py.check_enum_dtype(found.dtype) is not None:
            return None
        attrs: dict[str, Any] = {}
        for key in _DECODING:
            if key not in found.attrs:
                continue
            value = found.attrs[key]
            if isinstance(value, np.ndarray) and value.size == 1:
                value = value.reshape(-1)[0]
            if not isinstance(value, str | np.number | np.ndarray) or np.asarray(value).dtype.kind not in "iufU":
                return None
            attrs[key] = value
        return np.asarray(found[slab]), attrs


@contextmanager
def opened_hdf5(path: str, group: str) -> Iterator[tuple[Any, Any]]:
    file = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, _access())
    try:
        yield file, h5g.open(file, group.encode() or b"/")
    finally:
        file.close()


@functools.cache
def _access() -> Any:
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    return access


def links_of(group: Any) -> tuple[bytes, ...]:
    """Return the names in a group in the order in which h5py has them: as they were made, where that is recorded."""
    names: list[bytes] = []
    is_recorded = group.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_TRACKED
    group.links.iterate(names.append, idx_type=h5.INDEX_CRT_ORDER if is_recorded else h5.INDEX_NAME)
    return tuple(names)


def place_of(group: Any, name: str) -> bytes:
    return bytes(h5i.get_name(group)).rstrip(b"/") + b"/" + name.encode()


def scales_of(dataset: Any, file: Any) -> tuple[bytes, ...]:
    """Return the paths of the datasets that are attached to the dims, of each dim the last; none if some have none."""
    if not h5a.exists(dataset, b"DIMENSION_LIST"):
        return ()
    attribute = h5a.open(dataset, b"DIMENSION_LIST")
    found = np.empty(attribute.shape, attribute.dtype)
    attribute.read(found)
    require(all(len(references) for references in found))
    return tuple(h5r.get_name(references[-1], file) for references in found)


def is_unlimited(dataset: Any) -> bool:
    return h5s.UNLIMITED in dataset.get_space().get_simple_extent_dims(True)


def chunks_of(dataset: Any) -> tuple[int, ...] | None:
    made = dataset.get_create_plist()
    return tuple(made.get_chunk()) if made.get_layout() == h5d.CHUNKED else None


def values_of(dataset: Any, encoded: bytes, shape: tuple[int, ...]) -> Values:
    """Return all values of a dataset that has this type and shape, texts decoded."""
    kind, dtype = type_of(encoded)
    values = np.empty(shape, dtype)
    if values.size:
        if dtype.kind == "O":
            dataset.read(h5s.ALL, h5s.ALL, values)
            texts = np.empty(values.size, object)
            texts[:] = [one.decode() for one in values.flat]
            return texts.reshape(shape)
        dataset.read(h5s.ALL, h5s.ALL, values, kind)
    return values


@functools.lru_cache(maxsize=256)
def type_of(encoded: bytes) -> tuple[Any, np.dtype[Any]]:
    kind = h5t.decode(encoded)
    return kind, kind.dtype


def attribute_of(owner: Any, name: bytes) -> Attribute:
    attribute = h5a.open(owner, name)
    kind, shape = attribute.get_type(), attribute.shape
    require(kind.get_class() in CLASSES and shape is not None and len(shape) < 2)
    values = _attribute_values(attribute, kind, kind.dtype, shape)
    return Attribute(kind.encode(), shape, _bytes(values), _attribute_text(name, values))


def compared(owner: Any, name: bytes, made: Attribute) -> str:
    """Return the JSON of an attribute that must be of the pattern's type, if not of its length."""
    attribute = h5a.open(owner, name)
    kind, dtype = type_of(made.type)
    if dtype.kind != "O":  # HDF5 converts nothing else to text of any length, and so refuses to read it
        own = attribute.get_type()
        if not kind.equal(own):
            require(_is_text(kind) and _is_text(own) and kind.get_cset() == own.get_cset())
            kind, dtype = own, own.dtype
    require(not made.shape or attribute.shape == made.shape)  # h5py itself compares the number of dims
    values = _attribute_values(attribute, kind, dtype, made.shape)
    return made.text if _bytes(values) == made.value else _attribute_text(name, values)


def _is_text(kind: Any) -> bool:
    """Return whether a type is text of some characters; one character alone is bytes to h5netcdf."""
    return kind.get_class() == h5t.STRING and not kind.is_variable_str() and kind.get_size() > 1


def _attribute_values(attribute: Any, kind: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Values:
    values = np.empty(shape, dtype)
    if values.size:
        attribute.read(values, *(() if dtype.kind == "O" else (kind,)))
    return values


def _bytes(values: Values) -> bytes:
    return b"\0".join(values.flat) if values.dtype.kind == "O" else values.tobytes()


def _attribute_text(name: bytes, values: Values) -> str:
    """Return the JSON of the value that h5netcdf and xarray give for an attribute."""
    info = h5py.check_string_dtype(values.dtype)
    found: Any = values
    if info is None:
        found = values.reshape(-1)[0] if values.size == 1 else values
        return json_text(found)
    several: Iterable[Any] = values.reshape(-1).tolist()
    if info.length is None:
        several = [one.decode("utf-8", "surrogateescape") for one in several]
    elif info.length > 1:
        several = [one.decode(info.encoding, "surrogateescape") for one in several]
    found = [*several]
    found = found[0] if len(found) == 1 else found
    if isinstance(found, bytes) and name not in (b"_FillValue", b"missing_value"):
        found = found.decode()
    return json_text(found)
