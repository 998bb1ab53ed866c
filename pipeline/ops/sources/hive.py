"""Folders named ``key=value`` below the path of a source: columns whose values are in the names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from pipeline.graph.column_types import is_text
from pipeline.ops.sources.paths import below, fixed_folder, is_remote
from pipeline.outputs.column_text import from_text
from pipeline.outputs.hive_folders import MISSING

__all__ = ["FolderColumn", "folder_columns"]


@dataclass(frozen=True)
class FolderColumn:
    """A key of the folders.

    Parameters
    ----------
    texts : its text for each file; None: missing, or the file is in no folder of this key
    type : that the files say that they were written with; else int64 if all texts are whole numbers as they are
        written, date32 if all are days, else text
    """

    texts: tuple[str | None, ...]
    type: pa.DataType

    @property
    def nullable(self) -> bool:
        return None in self.texts

    def value(self, i: int) -> Any:
        """Return the value for file ``i`` as an expression compares it; None: missing, or of another kind."""
        text, t = self.texts[i], pa.types
        if text is None or not (is_text(self.type) or t.is_integer(self.type) or t.is_date(self.type)):
            return None
        return from_text(pa.array([text], pa.string()), self.type)[0].as_py()


def folder_columns(
    path: str | Sequence[str], names: Sequence[str], types: Mapping[str, pa.DataType]
) -> dict[str, FolderColumn]:
    """Return the columns that the folders of the files give; none if ``path`` is a list.

    Parameters
    ----------
    path : as a source has it
    names : the files
    types : of the columns that were written with a type
    """
    if not isinstance(path, str):
        return {}
    root = path if not re.search(r"[*?\[]", path) and (is_remote(path) or os.path.isdir(path)) else fixed_folder(path)
    found: dict[str, list[str | None]] = {}
    for i, name in enumerate(names):
        for part in below(root, name).split("/")[:-1]:
            key, equals, value = part.partition("=")
            if equals:
                values = found.setdefault(unquote(key), [None] * len(names))
                values[i] = None if value == MISSING else unquote(value)
    return {key: FolderColumn(tuple(values), types.get(key) or _type(values)) for key, values in found.items()}


def _type(texts: Sequence[str | None]) -> pa.DataType:
    known = {text for text in texts if text is not None}
    if known and all(map(_is_whole, known)):
        return pa.int64()
    return pa.date32() if known and all(map(_is_day, known)) else pa.string()


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"-?\d{1,19}", text) is not None and str(int(text)) == text and -(2**63) <= int(text) < 2**63


def _is_day(text: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
