"""The metadata of one variable of HDF5 files that are made alike: read by h5py alone, in a tenth of xarray's time.

What xarray finds in one file is the pattern. Of another file everything is compared on which that depends: the names in
the group, the dims, the types, the attributes. Lengths, values of coordinates and values of attributes may differ; of a
file that differs in more, xarray must say what it means.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from h5py import h5a, h5d, h5o

from pipeline.ops.sources.array_records import ArrayRecord, RawVariable, token_of
from pipeline.ops.sources.hdf5_parts import (
    CLASSES,
    Attribute,
    attribute_of,
    chunks_of,
    compared,
    is_unlimited,
    links_of,
    opened_hdf5,
    place_of,
    require,
    scales_of,
    type_of,
    values_of,
)

__all__ = ["Pattern", "pattern_of"]

_NAMING = (b"coordinates", b"bounds")  # attributes of any variable that say what others are
_STRICT = (b"NAME", b"_Netcdf4Coordinates", b"_Netcdf4Dimid")
_UNREAD = (b"CLASS", b"REFERENCE_LIST", b"DIMENSION_LIST")
_RENAMED = b"_nc4_non_coord_"  # begins names of variables that are called like a dim that is not theirs


@dataclass(frozen=True)
class _Dataset:
    """A dataset on which the record depends.

    Parameters
    ----------
    attributes : those of the record, in its order
    strict : others whose values must be the same
    unread : names of others that must be there
    scales : paths of the datasets that are its dims; empty: it is its own, or its dims have no names
    dims : the names of these
    """

    type: bytes
    ndim: int
    attributes: dict[bytes, Attribute]
    strict: dict[bytes, Attribute]
    unread: tuple[bytes, ...]
    scales: tuple[bytes, ...]
    dims: tuple[str, ...]


@dataclass(frozen=True)
class _Other:
    """Another dataset of the group: its attributes, and where its length may be that of an unlimited dim.

    Parameters
    ----------
    naming : the attributes of ``_NAMING`` that it has
    scales : as of a :class:`_Dataset`, if it may be a coordinate
    lengths : axis and dim
    """

    naming: dict[bytes, Attribute]
    scales: tuple[bytes, ...] | None
    lengths: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Pattern:
    """What a file must be like so that its record is known without xarray."""

    record: ArrayRecord
    links: tuple[bytes, ...]
    naming: dict[bytes, Attribute]  # of the group
    datasets: dict[str, _Dataset]
    others: dict[bytes, _Other]
    unlimited: frozenset[str]

    def read(self, path: str) -> ArrayRecord | None:
        """Return the record of another file; None if xarray has to read it, whatever is the matter with it."""
        with suppress(Exception), opened_hdf5(path, self.record.group) as (file, group):
            return _Reading(self, file, group).record()
        return None


def pattern_of(path: str, record: ArrayRecord) -> Pattern | None:
    """Return the pattern that a file and its record give; None if they give none.

    Parameters
    ----------
    record : what xarray finds in the file
    """
    if record.engine != "h5netcdf" or record.ends is not None:
        return None
    with suppress(Exception), opened_hdf5(path, record.group) as (file, group):
        pattern = _made(record, file, group)
        again = _Reading(pattern, file, group).record()
        raws = zip([record.variable, *record.coordinates], [again.variable, *again.coordinates], strict=True)
        if again.chunks == record.chunks and all(a.key is not None and a.key == b.key for a, b in raws):
            return pattern
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Another file
# ---------------------------------------------------------------------------------------------------------------------


class _Reading:
    """The record of one open file."""

    def __init__(self, pattern: Pattern, file: Any, group: Any) -> None:
        self._pattern, self._file, self._group = pattern, file, group

    def record(self) -> ArrayRecord:
        pattern, record = self._pattern, self._pattern.record
        require(links_of(self._group) == pattern.links)
        _require_naming(self._group, pattern.naming)
        opened = {name: h5d.open(self._group, name.encode()) for name in pattern.datasets}
        shapes = {name: dataset.shape for name, dataset in opened.items()}
        texts = {name: self._text(opened[name], shapes[name], made) for name, made in pattern.datasets.items()}
        for name, made in pattern.datasets.items():
            if made.scales:
                require(all(shapes[name][i] == shapes[dim][0] for i, dim in enumerate(made.dims)))
            else:
                require((name in pattern.unlimited) == is_unlimited(opened[name]))
        for link, other in pattern.others.items():
            dataset = h5d.open(self._group, link)
            _require_naming(dataset, other.naming)
            require(other.scales is None or scales_of(dataset, self._file) == other.scales)
            if other.lengths:
                own = dataset.shape
                require(all(own[axis] == shapes[dim][0] for axis, dim in other.lengths))
        own = texts[record.variable.name]
        # the ends of times are part of a record
        require(own == record.variable.attrs_text or " since " not in str(json.loads(own).get("units", "")))
        types = {name: made.type for name, made in pattern.datasets.items()}

        def variable(made: RawVariable, dataset: Any) -> RawVariable:
            return _variable(made, types[made.name], shapes[made.name], texts[made.name], dataset)

        return ArrayRecord(
            record.engine,
            record.group,
            variable(record.variable, None),
            tuple(variable(made, opened[made.name]) for made in record.coordinates),
            chunks=chunks_of(opened[record.variable.name]),
        )

    def _text(self, dataset: Any, shape: tuple[int, ...], made: _Dataset) -> str:
        """Return the attributes as text, when all that must be equal was compared."""
        require(type_of(made.type)[0].equal(dataset.get_type()) and len(shape) == made.ndim)
        n = len(made.attributes) + len(made.strict) + len(made.unread)
        require(h5a.get_num_attrs(dataset) == n and all(h5a.exists(dataset, name) for name in made.unread))
        require(all(compared(dataset, name, one) == one.text for name, one in made.strict.items()))
        require(not made.scales or scales_of(dataset, self._file) == made.scales)
        texts = (
            f"{json.dumps(name.decode())}: {compared(dataset, name, one)}" for name, one in made.attributes.items()
        )
        return f"{{{', '.join(texts)}}}"


def _require_naming(owner: Any, naming: dict[bytes, Attribute]) -> None:
    for name in _NAMING:
        require(h5a.exists(owner, name) == (name in naming))
        require(name not in naming or compared(owner, name, naming[name]) == naming[name].text)


def _variable(made: RawVariable, encoded: bytes, shape: tuple[int, ...], text: str, dataset: Any) -> RawVariable:
    """Return a variable with its values, if it has a dataset; the very one of the pattern if it is equal."""
    if dataset is None:
        return RawVariable(made.name, made.dims, shape, made.dtype, text)
    values = values_of(dataset, encoded, shape)
    assert made.values is not None
    if values.dtype.kind == "O":  # xarray gives such texts in a type of its own
        require(shape == made.shape and values.tolist() == made.values.tolist())
        values, is_same = made.values, True
    else:
        require(values.dtype == made.dtype)
        is_same = shape == made.shape and values.tobytes() == made.values.tobytes()
    if is_same and text == made.attrs_text:
        return made
    return RawVariable(
        made.name, made.dims, shape, values.dtype, text, values, made.token if is_same else token_of(values)
    )


# ---------------------------------------------------------------------------------------------------------------------
# The pattern
# ---------------------------------------------------------------------------------------------------------------------


def _made(record: ArrayRecord, file: Any, group: Any) -> Pattern:
    links = links_of(group)
    require(not any(link.startswith(_RENAMED) for link in links))
    variables = {raw.name: raw for raw in (record.variable, *record.coordinates)}
    opened = {name: h5d.open(group, name.encode()) for name in variables}
    scales = {name: scales_of(dataset, file) for name, dataset in opened.items()}
    for name, raw in variables.items():
        is_named = not any(dim.startswith("phony_dim_") for dim in raw.dims)
        require(is_named or not (record.coordinates or scales[name]))
        require(not scales[name] or [place_of(group, dim) for dim in raw.dims] == [*scales[name]])
        require(bool(scales[name]) or not raw.dims or not is_named or raw.dims == (name,))
    for dim in {dim for name, raw in variables.items() if scales[name] for dim in raw.dims} - opened.keys():
        opened[dim] = h5d.open(group, dim.encode())
        scales[dim] = ()
    is_strict = any(h5a.exists(each, b"_Netcdf4Coordinates") and h5a.exists(each, b"CLASS") for each in opened.values())
    datasets = {}
    for name, dataset in opened.items():
        own = variables.get(name)
        wanted = [key.encode() for key in json.loads(own.attrs_text)] if own is not None else []
        dims = own.dims if own is not None and scales[name] else ()
        datasets[name] = _dataset(dataset, wanted, scales[name], dims, is_strict=is_strict)
    unlimited = frozenset(name for name, made in datasets.items() if not made.scales and is_unlimited(opened[name]))
    named: set[bytes] = set()
    others: dict[bytes, tuple[Any, dict[bytes, Attribute]]] = {}
    naming = _naming(group)
    for link in links:
        if link.decode() in datasets:
            named |= _names(_naming(opened[link.decode()]))
            continue
        if isinstance(h5o.open(group, link), h5d.DatasetID):
            dataset = h5d.open(group, link)
            others[link] = dataset, _naming(dataset)
            named |= _names(others[link][1])
        else:
            require(not unlimited)  # datasets of another group may be longer
    named |= _names(naming)
    return Pattern(
        record,
        links,
        naming,
        datasets,
        {
            link: _other(dataset, own, file, group, unlimited, is_named=link in named)
            for link, (dataset, own) in others.items()
        },
        unlimited,
    )


def _dataset(
    dataset: Any, wanted: list[bytes], scales: tuple[bytes, ...], dims: tuple[str, ...], *, is_strict: bool
) -> _Dataset:
    kind = dataset.get_type()
    require(kind.get_class() in CLASSES)
    names: list[bytes] = []
    h5a.iterate(dataset, names.append)
    strict = [name for name in names if name in (_STRICT if is_strict else _STRICT[:1])]
    unread = [name for name in names if name in (*_UNREAD, *_STRICT) and name not in strict]
    attributes = wanted or [name for name in names if name not in (*_UNREAD, *_STRICT)]
    require({*attributes, *strict, *unread} == {*names})
    return _Dataset(
        kind.encode(),
        len(dataset.shape),
        {name: attribute_of(dataset, name) for name in attributes},
        {name: attribute_of(dataset, name) for name in strict},
        tuple(unread),
        scales,
        dims,
    )


def _other(
    dataset: Any, naming: dict[bytes, Attribute], file: Any, group: Any, unlimited: frozenset[str], *, is_named: bool
) -> _Other:
    scales = scales_of(dataset, file)
    places = {place_of(group, dim): dim for dim in unlimited}
    lengths = tuple((axis, places[scale]) for axis, scale in enumerate(scales) if scale in places)
    return _Other(naming, scales if is_named else None, lengths)


def _naming(owner: Any) -> dict[bytes, Attribute]:
    return {name: attribute_of(owner, name) for name in _NAMING if h5a.exists(owner, name)}


def _names(naming: dict[bytes, Attribute]) -> set[bytes]:
    """Return the names of coordinates that attributes have."""
    return {*str(json.loads(naming[b"coordinates"].text)).encode().split()} if b"coordinates" in naming else set()
