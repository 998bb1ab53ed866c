"""The formats of outputs: the kinds of values that each takes, and the files that it writes.

=======  ====================  ========================================================================================
format   kinds                 files
=======  ====================  ========================================================================================
parquet  frame, value          a folder, one file a partition, or ``files`` many; ``column=value`` folders
zarr     array                 a group with one array named like the output, and its coordinates
netcdf   array                 one netCDF-4 file with one variable named like the output, and its coordinates
npy      array, items          one file; a file an item
csv      frame, value          one file
json     all kinds             one file, of an array that is small; of items one file, or a file an item
pickle   value, items          one file; a file an item
text     value, items          one file of UTF-8, of a text or of a list of texts, a line each; a file an item
png, svg array, frame          one file, a plot
file     value, items          one file, of a file that a task left or of bytes; a file an item
=======  ====================  ========================================================================================

A value is written as parquet or csv if it is a frame of pandas, polars or Arrow. csv, json, pickle and text are
compressed where the path ends in ``.gz``, ``.bz2`` or ``.xz``.

What reads and writes outputs imports this, and so every measured run: the models of the options are in
:mod:`pipeline.config.sections.format_options`, since pydantic takes longer to import than all the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["FOLDERS", "FORMATS", "ONE_FILE", "PACKED", "PICTURES", "Format", "are_lines"]


@dataclass(frozen=True)
class Format:
    """One format.

    Parameters
    ----------
    kinds : the kinds of values that it takes
    attrs : whether its files hold attributes
    folder : whether an output of it is a folder
    """

    kinds: tuple[str, ...]
    attrs: bool = False
    folder: bool = False


FORMATS: Mapping[str, Format] = {
    "parquet": Format(("frame", "value"), attrs=True, folder=True),
    "zarr": Format(("array",), attrs=True, folder=True),
    "netcdf": Format(("array",), attrs=True),
    "npy": Format(("array", "items")),
    "csv": Format(("frame", "value")),
    "json": Format(("frame", "value", "items", "array")),
    "pickle": Format(("value", "items")),
    "text": Format(("value", "items")),
    "file": Format(("value", "items")),
    "png": Format(("array", "frame")),
    "svg": Format(("array", "frame")),
}
"""Name -> format."""

PACKED = (".gz", ".bz2", ".xz")
"""What the name of a compressed output ends in."""

PICTURES = ("png", "svg")
"""Formats that are plots: the value can't be read from them."""

ONE_FILE = ("json",)
"""Formats that also write all items into one file, where the path has no ``${key}``."""

FOLDERS = tuple(name for name, form in FORMATS.items() if form.folder)
"""Formats whose outputs are folders; the others are one file, or a file an item."""


def are_lines(path: str, options: Mapping[str, Any]) -> bool:
    """Return whether the json output of a frame has one object per line, by its options or else by its path."""
    plain = path.removesuffix(next(filter(path.endswith, PACKED), ""))
    return bool(options.get("lines", plain.endswith((".jsonl", ".ndjson"))))
