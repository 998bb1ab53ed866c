"""One schema of several files of tables, made while building from what the files say of their columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import common_type, empty_table, is_text, natural_type, type_name
from pipeline.ops.frames.cast import target_type
from pipeline.ops.sources.file_columns import chosen, narrowed, typed
from pipeline.ops.sources.hive import FolderColumn, folder_columns
from pipeline.outputs.column_text import from_text
from pipeline.outputs.files import read_errors
from pipeline.outputs.hive_folders import kept_types

__all__ = ["Columns", "Files", "StoredFile", "partition", "settled"]

Columns = Sequence[str] | Literal["union"] | None


@dataclass(frozen=True)
class StoredFile:
    """What a file records of its columns.

    Parameters
    ----------
    rows : how many it has; None: unknown
    metadata : of the format
    """

    path: str
    options: Mapping[str, Any]
    schema: pa.Schema
    rows: int | None
    metadata: Any = None


@dataclass(frozen=True)
class Files:
    """The files of a source as one frame.

    Parameters
    ----------
    schema : of every partition
    folders : the columns of it that are in the names of folders
    casts : the columns of it that ``cast`` names, and their types
    """

    files: tuple[StoredFile, ...]
    schema: pa.Schema
    folders: Mapping[str, FolderColumn]
    casts: Mapping[str, str]

    def stored(self, file: StoredFile) -> list[str]:
        """Return the columns of the schema that are in a file itself."""
        return [name for name in self.schema.names if name not in self.folders and name in file.schema.names]

    def known(self, i: int) -> dict[str, Any]:
        """Return the values that all rows of file ``i`` have, in the types of the schema."""
        return {name: folder.value(i) for name, folder in self.folders.items() if name not in self.casts}

    def fixed(self, i: int) -> dict[str, Any]:
        """Return the columns of file ``i`` with one value in all of its rows."""
        return {name: folder.texts[i] for name, folder in self.folders.items()}


def settled(
    path: str | Sequence[str],
    files: Sequence[StoredFile],
    columns: Columns,
    cast: Mapping[str, str] | None,
    needed: Collection[str] | None,
    has_no_missing: Callable[[StoredFile, str], bool],
) -> Files:
    """Return one schema of all files.

    The type of a column holds the values of every file exactly; files without rows, or whose column has no type, have
    no say. ``key=value`` folders below the path are columns.

    Parameters
    ----------
    columns : to read, in order; ``union``: all that a file has, which is missing in the rows of the others; None: all,
        which every file must have
    needed : the columns that later steps use; None: all
    has_no_missing : whether a file is known to have no missing value in a column

    Raises
    ------
    DataError : a file lacks a column, has one twice, or one that is not of a common type
    OpError : there is no such column
    """
    stored = [kept_types(file.schema.metadata) for file in files]
    same = stored[0] if all(types == stored[0] for types in stored) else {}
    folders = folder_columns(path, [file.path for file in files], same)
    for file in files:
        _require_once(file)
    known = _known(files, folders, columns)
    wanted = chosen(None if columns == "union" else columns, known, path)
    casts = dict(cast or {})
    chosen(tuple(casts), known, path, field="cast")
    wanted = narrowed(wanted, needed)
    fields = []
    for name in wanted:
        if name in folders:
            kind, nullable = folders[name].type, folders[name].nullable
            if name in casts:
                kind = target_type(f"cast.{name}", pa.string(), casts[name])
        else:
            if columns != "union":
                _require_everywhere(name, files)
            kind, nullable = _type_of(name, files, casts)
            nullable = nullable or not all(has_no_missing(file, name) for file in files if file.rows != 0)
        # a float that is not a number is missing, and no file counts those
        fields.append(pa.field(name, kind, nullable or pa.types.is_floating(kind)))
    kept = {name: casts[name] for name in wanted if name in casts}
    return Files(tuple(files), pa.schema(fields), {name: folders[name] for name in wanted if name in folders}, kept)


def _require_once(file: StoredFile) -> None:
    names = file.schema.names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{file.path}: has {names.count(twice)} columns {twice!r}")


def _known(files: Sequence[StoredFile], folders: Mapping[str, FolderColumn], columns: Columns) -> list[str]:
    """The columns that can be chosen: those of the first file, or of all."""
    first = files[0]
    names = dict.fromkeys(_own(first))
    for file in files[1:]:
        more = [name for name in _own(file) if name not in names and name not in folders]
        if more and columns == "union":
            names |= dict.fromkeys(more)
        elif more and columns is None:
            raise DataError(
                f"{file.path}: has a column {more[0]!r}, {first.path} has none; read what all have, columns: "
                f"[{', '.join(_shared(files))}], or all with missing values where a file has none, columns: union"
            )
    return [*(name for name in names if name not in folders), *folders]


def _own(file: StoredFile) -> list[str]:
    """The columns of a file without the row numbers that pandas writes."""
    return [name for name in file.schema.names if not name.startswith("__index_level_")]


def _shared(files: Sequence[StoredFile]) -> list[str]:
    others = [set(file.schema.names) for file in files]
    return [name for name in _own(files[0]) if all(name in names for names in others)]


def _require_everywhere(name: str, files: Sequence[StoredFile]) -> None:
    lacking = next((file for file in files if file.schema.get_field_index(name) < 0), None)
    if lacking is None:
        return
    shared = _shared(files)
    cure = f"; those that all files have: columns: [{', '.join(shared)}]" if shared else ""
    having = next(file.path for file in files if name in file.schema.names)
    raise DataError(
        f"{lacking.path}: has no column {name!r}, {having} has one{cure}; all of them, with missing values where a "
        "file has none: columns: union"
    )


def _type_of(name: str, files: Sequence[StoredFile], casts: Mapping[str, str]) -> tuple[pa.DataType, bool]:
    """The type that holds the column of every file, and whether a file lacks its values."""
    found: dict[pa.DataType, StoredFile] = {}
    lacks, first = False, None
    for file in files:
        if file.schema.get_field_index(name) < 0:
            lacks = lacks or file.rows != 0
            continue
        stored = file.schema.field(name).type
        try:
            kind = natural_type(stored)
        except OpError as error:
            raise DataError(f"{file.path}: column {name!r} {error.message}") from error
        if name in casts:
            kind = target_type(f"cast.{name}", kind, casts[name])
        first = kind if first is None else first
        if pa.types.is_null(stored):
            lacks = lacks or file.rows != 0
        elif file.rows != 0:
            found.setdefault(kind, file)
    common = common_type(list(found)) if found else first
    if common is None:
        one, other = _apart(list(found))
        raise DataError(
            f"{found[other].path}: column {name!r} is {type_name(other)}, in {found[one].path} {type_name(one)}; no "
            f"type holds both: cast: {{{name}: …}}"
        )
    return common, lacks


def _apart(types: Sequence[pa.DataType]) -> tuple[pa.DataType, pa.DataType]:
    """Two of some types that have no common type, in their order."""
    pairs = ((one, other) for i, other in enumerate(types) for one in types[:i])
    return next((pair for pair in pairs if common_type(pair) is None), (types[0], types[-1]))


def partition(
    path: str, read: pa.Table, n: int, schema: pa.Schema, casts: Mapping[str, str], fixed: Mapping[str, Any]
) -> pa.Table:
    """Return a partition of what was read of a file.

    Parameters
    ----------
    read : the columns of the schema that are in the file, in any order
    n : number of rows
    fixed : columns with one value in all rows; or the text of it

    Raises
    ------
    DataError : naming the file and the column that is not what was declared
    """
    if not n:
        return empty_table(schema)  # the types of such a file have no say
    own = pa.schema([field for field in schema if field.name not in fixed])
    columns: dict[str, Any] = {}
    for field in own:
        place = read.schema.get_field_index(field.name)
        columns[field.name] = pa.nulls(n, field.type) if place < 0 else read.column(place)
    made = dict(zip(own.names, typed(path, pa.table(columns), own, casts).columns, strict=True))
    for name, value in fixed.items():
        one = pa.schema([schema.field(name)])
        with read_errors(path):
            cell = _cell(value, pa.string() if name in casts else one.field(0).type)
        made[name] = typed(path, pa.table({name: cell}), one, casts).column(0).take(pa.array(np.zeros(n, np.int64)))
    return pa.Table.from_arrays([made[name] for name in schema.names], schema=schema)


def _cell(value: Any, kind: pa.DataType) -> pa.Array:
    is_its_text = isinstance(value, str) and not is_text(kind)
    return from_text(pa.array([value], pa.string()), kind) if is_its_text else pa.array([value], kind)
