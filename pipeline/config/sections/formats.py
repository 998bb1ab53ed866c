"""The formats of outputs: which kinds of values each takes, what it can be told, and what it leaves.

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

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["FOLDERS", "FORMATS", "PACKED", "Format", "Option", "are_lines"]


class Option(NamedTuple):
    """What one option of a format may be: whether a value fits, and what does."""

    fits: Callable[[Any], bool]
    wanted: str


@dataclass(frozen=True)
class Format:
    """One format.

    Parameters
    ----------
    kinds : of values that it takes
    options : its own, by name
    attrs : whether its files hold attributes
    folder : whether an output of it is a folder
    """

    kinds: tuple[str, ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    attrs: bool = False
    folder: bool = False


def _is_count(got: Any) -> bool:
    return type(got) is int and got >= 1


def _is_text(got: Any) -> bool:
    return isinstance(got, str)


def _is_one_character(got: Any) -> bool:
    return isinstance(got, str) and len(got) == 1 and got not in '"\r\n'


def _is_truth(got: Any) -> bool:
    return isinstance(got, bool)


def _are_chunks(got: Any) -> bool:
    return isinstance(got, dict) and bool(got) and all(_is_count(size) for size in got.values())


def _up_to(lowest: int, highest: int) -> Option:
    def fits(got: Any) -> bool:
        return type(got) is int and lowest <= got <= highest

    return Option(fits, f"a whole number from {lowest} to {highest}")


def _is_number_format(got: Any) -> bool:
    return isinstance(got, str) and re.fullmatch(r"%[-+ #0]*\d*(\.\d+)?[eEfFgG]", got) is not None


_CHUNKS = Option(_are_chunks, "a map: {dim: size}")
_COMPRESSIONS = ("zstd", "snappy", "gzip", "brotli", "lz4", "none")

FORMATS: Mapping[str, Format] = {
    "parquet": Format(
        ("frame",),
        {
            "compression": Option(lambda got: got in _COMPRESSIONS, f"one of {', '.join(_COMPRESSIONS)}"),
            "compression_level": _up_to(-7, 22),
            "row_group_size": Option(_is_count, "a whole number >= 1"),
        },
        attrs=True,
        folder=True,
    ),
    "zarr": Format(("array",), {"chunks": _CHUNKS, "level": _up_to(-7, 22)}, attrs=True, folder=True),
    "netcdf": Format(("array",), {"chunks": _CHUNKS, "level": _up_to(0, 9)}, attrs=True),
    "npy": Format(("array", "items")),
    "csv": Format(
        ("frame",),
        {
            "sep": Option(_is_one_character, "one character"),
            "na_rep": Option(_is_text, "a text"),
            "float_format": Option(_is_number_format, "a number's format: '%.3f'"),
            "date_format": Option(_is_text, "a time's format: '%Y-%m-%d'"),
            "decimal": Option(_is_one_character, "one character"),
            "quoting": _up_to(0, 2),
        },
    ),
    "json": Format(("frame", "value", "items"), {"lines": Option(_is_truth, "true or false"), "indent": _up_to(0, 16)}),
    "pickle": Format(("value", "items"), {"protocol": _up_to(0, 5)}),
    "text": Format(("value", "items")),
    "file": Format(("value", "items")),
}
"""Name -> format."""

PACKED = (".gz", ".bz2", ".xz")
"""What the name of a compressed output ends in."""

FOLDERS = tuple(name for name, form in FORMATS.items() if form.folder)
"""Formats whose outputs are folders; the others are one file, or a file an item."""


def are_lines(path: str, options: Mapping[str, Any]) -> bool:
    """Whether the json output of a frame is an object a line: as its options say, else as its name does."""
    plain = path.removesuffix(next(filter(path.endswith, PACKED), ""))
    return bool(options.get("lines", plain.endswith((".jsonl", ".ndjson"))))
