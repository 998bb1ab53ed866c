"""The types that JSON objects show: numbers, truth values, texts, structs of objects, lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.json as pajson

from pipeline.errors import DataError
from pipeline.graph.column_types import is_integer, natural_type
from pipeline.ops.sources.text_values import common, may_be_inexact

__all__ = ["inexact", "merged", "parsed", "row_fault", "shown_types", "with_texts"]


def parsed(data: bytes, schema: pa.Schema | None, others: str = "infer") -> pa.Table:
    """Return lines of objects as a table, parsed by Arrow at once: types can't change within it.

    Parameters
    ----------
    others : what happens to keys that the schema lacks: ``infer``, ``ignore`` or ``error``
    """
    read = pajson.ReadOptions(use_threads=False, block_size=len(data) + 1)
    parse = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior=others)
    return pajson.read_json(pa.BufferReader(data), read_options=read, parse_options=parse)


def shown_types(path: str, rows: Sequence[bytes], *, is_list: bool) -> dict[str, pa.DataType | None]:
    """Return the columns that rows show, and their types; null where no row has a value, None for several kinds.

    Raises
    ------
    DataError : a row is no object
    """
    data, mixed = b"".join(rows), list[str]()
    while data.strip():
        try:
            table = parsed(data, None)
        except pa.ArrowInvalid as error:
            changed = re.search(r"Column\(/([^/)]+).*\) changed from", str(error))
            if not changed or changed[1] in mixed:
                raise DataError(row_fault(path, rows, is_list, error)) from error
            mixed.append(changed[1])
            data = with_texts(data, mixed[-1:])
        else:
            found: dict[str, pa.DataType | None] = {f.name: _settled(f.type) for f in table.schema}
            floats = [n for n, kind in found.items() if kind == pa.float64() and may_be_inexact(table.column(n))]
            return found | (_long_numbers(rows, floats) if floats else {}) | dict.fromkeys(mixed)
    return {}


def _settled(kind: pa.DataType) -> pa.DataType:
    """The type of a column, of what Arrow infers: times are text."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(member.name, _settled(member.type)) for member in kind])
    if pa.types.is_list(kind):
        return pa.list_(_settled(kind.value_type))
    return pa.string() if pa.types.is_temporal(kind) else kind


def _long_numbers(rows: Sequence[bytes], names: Sequence[str]) -> dict[str, pa.DataType]:
    """Columns of whole numbers beyond int64, which Arrow takes for floats."""
    found: dict[str, set[type]] = {name: set() for name in names}
    sizes = dict.fromkeys(names, (0, 0))
    for row in rows:
        values = json.loads(row) if row.strip() else {}
        for name in names:
            value = values.get(name)
            if value is not None:
                found[name].add(type(value))
                if isinstance(value, int):
                    sizes[name] = min(sizes[name][0], value), max(sizes[name][1], value)
    whole = [name for name in names if found[name] == {int}]
    return {name: pa.uint64() if sizes[name][0] >= 0 and sizes[name][1] < 2**64 else pa.decimal128(38, 0)
            for name in whole if max(map(abs, sizes[name])) < 10**38}  # fmt: skip


def merged(types: Sequence[pa.DataType | None]) -> pa.DataType | None:
    """Return the type of values that several places show; None if they are of several kinds.

    A column without any value is ``float64``.

    >>> merged([pa.struct([("a", pa.int64())]), pa.struct([("a", pa.float64()), ("b", pa.null())])])
    StructType(struct<a: double, b: double>)
    """
    found: pa.DataType = pa.null()
    for kind in types:
        one = None if kind is None else _both(found, kind)
        if one is None:
            return None
        found = one
    return None if _has_no_members(found) else natural_type(found)


def _has_no_members(kind: pa.DataType) -> bool:
    """Whether a type has a struct without members, which says nothing of what later objects have."""
    if pa.types.is_list(kind):
        return _has_no_members(kind.value_type)
    return pa.types.is_struct(kind) and (not kind.num_fields or any(_has_no_members(m.type) for m in kind))


def _both(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    t = pa.types
    if t.is_null(one) or one == other:
        return other
    if t.is_null(other):
        return one
    if t.is_struct(one) and t.is_struct(other):
        members = {member.name: member.type for member in one}
        for member in other:
            kind = _both(members.get(member.name, pa.null()), member.type)
            if kind is None:
                return None
            members[member.name] = kind
        return pa.struct(list(members.items()))
    if t.is_list(one) and t.is_list(other):
        inner = _both(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    if all(is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind) for kind in (one, other)):
        kind = common([one, other])
        return None if t.is_string(kind) else kind
    return None


def with_texts(data: bytes, names: Sequence[str]) -> bytes:
    """Return the lines with the values of some keys as texts: those that are none, and not null, as their JSON."""
    rows = [json.loads(line) for line in data.splitlines() if line.strip()]
    for row in rows:
        for name in names:
            if row.get(name) is not None and not isinstance(row[name], str):
                row[name] = json.dumps(row[name], ensure_ascii=False)
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def inexact(row: bytes, types: Sequence[tuple[str, pa.DataType]]) -> str:
    """Return the column in which a row has a whole number that its float does not equal; empty if none."""
    values = json.loads(row)
    for name, kind in types:
        if any(int(float(value)) != value for value in _whole(values.get(name), kind)):
            return name
    return ""


def _whole(value: Any, kind: pa.DataType) -> Iterator[int]:
    if isinstance(value, dict) and pa.types.is_struct(kind):
        for member in kind:
            yield from _whole(value.get(member.name), member.type)
    elif isinstance(value, list) and pa.types.is_list(kind):
        for each in value:
            yield from _whole(each, kind.value_type)
    elif kind == pa.float64() and isinstance(value, int):
        yield value


def row_fault(path: str, rows: Sequence[bytes], is_list: bool, error: Exception, first: int = 0) -> str:
    """Return what to say of the first row that is no JSON object, with its line.

    Parameters
    ----------
    first : lines of the file before these, which are one after the other
    """
    full = [i for i, row in enumerate(rows) if row.strip()]

    def place(i: int) -> str:
        return f"{path}: member {i} of the list" if is_list else f"{path}:{first + i + 1}"

    for i in full:
        try:
            value = json.loads(rows[i])
        except json.JSONDecodeError as no_json:
            return f"{place(i)}: is no JSON of objects, one a line ({no_json.msg}: column {no_json.colno})"
        if not isinstance(value, dict):
            return f"{place(i)}: is no object, but {type(value).__name__}"
    said = str(error).removeprefix("JSON parse error: ")
    counted = re.search(r"(.*?)\.? in row (\d+)$", said)
    if counted and int(counted[2]) < len(full):
        return f"{place(full[int(counted[2])])}: is no JSON of objects, one a line ({counted[1]})"
    return f"{path}: is no JSON of objects, one a line ({said})"
