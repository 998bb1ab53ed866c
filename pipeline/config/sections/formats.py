"""The formats of outputs: the kinds of values that each takes, its options, and the files that it writes.

=======  ====================  ========================================================================================
format   kinds                 files
=======  ====================  ========================================================================================
parquet  frame                 a folder, one file a partition, or ``files`` many; ``column=value`` folders
zarr     array                 a group with one array named like the output, and its coordinates
netcdf   array                 one netCDF-4 file with one variable named like the output, and its coordinates
npy      array, items          one file; a file an item
csv      frame                 one file
json     frame, value, items   one file; a file an item
pickle   value, items          one file; a file an item
text     value, items          one file of UTF-8, of a text or of a list of texts, a line each; a file an item
file     value, items          one file, of a file that a task left or of bytes; a file an item
=======  ====================  ========================================================================================

csv, json, pickle and text are compressed where the path ends in ``.gz``, ``.bz2`` or ``.xz``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.config.sections.fields import Count, Section, key

__all__ = ["FOLDERS", "FORMATS", "PACKED", "Format", "are_lines"]


_Character = Annotated[str, Field(pattern=r'^[^"\r\n]$')]
_ChunkSizes = Annotated[dict[str, Count], Field(min_length=1)]


class _NoOptions(Section):
    pass


class _Parquet(Section):
    compression: Literal["zstd", "snappy", "gzip", "brotli", "lz4", "none"] = "zstd"
    compression_level: int = Field(0, ge=-7, le=22)
    row_group_size: Count = 1


class _Zarr(Section):
    chunks: _ChunkSizes = key("", {}, takes="a map: {dim: size}")
    level: int = Field(0, ge=-7, le=22)


class _NetCDF(_Zarr):
    level: int = Field(0, ge=0, le=9)


class _CSV(Section):
    sep: _Character = key("", ",", takes="one character")
    na_rep: str = ""
    float_format: str = key("", "", takes="a number's format: '%.3f'", pattern=r"^%[-+ #0]*\d*(\.\d+)?[eEfFgG]$")
    date_format: str = key("", "", takes="a time's format: '%Y-%m-%d'")
    decimal: _Character = key("", ".", takes="one character")
    quoting: int = Field(0, ge=0, le=2)


class _JSON(Section):
    lines: bool = False
    indent: int = Field(0, ge=0, le=16)


class _Pickle(Section):
    protocol: int = Field(0, ge=0, le=5)


@dataclass(frozen=True)
class Format:
    """One format.

    Parameters
    ----------
    kinds : the kinds of values that it takes
    options : the model of its options; those that a file leaves out are left to the library that writes
    attrs : whether its files hold attributes
    folder : whether an output of it is a folder
    """

    kinds: tuple[str, ...]
    options: type[Section] = _NoOptions
    attrs: bool = False
    folder: bool = False


FORMATS: Mapping[str, Format] = {
    "parquet": Format(("frame",), _Parquet, attrs=True, folder=True),
    "zarr": Format(("array",), _Zarr, attrs=True, folder=True),
    "netcdf": Format(("array",), _NetCDF, attrs=True),
    "npy": Format(("array", "items")),
    "csv": Format(("frame",), _CSV),
    "json": Format(("frame", "value", "items"), _JSON),
    "pickle": Format(("value", "items"), _Pickle),
    "text": Format(("value", "items")),
    "file": Format(("value", "items")),
}
"""Name -> format."""

PACKED = (".gz", ".bz2", ".xz")
"""What the name of a compressed output ends in."""

FOLDERS = tuple(name for name, form in FORMATS.items() if form.folder)
"""Formats whose outputs are folders; the others are one file, or a file an item."""


def are_lines(path: str, options: Mapping[str, Any]) -> bool:
    """Return whether the json output of a frame has one object per line, by its options or else by its path."""
    plain = path.removesuffix(next(filter(path.endswith, PACKED), ""))
    return bool(options.get("lines", plain.endswith((".jsonl", ".ndjson"))))
