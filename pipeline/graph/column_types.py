"""Types of columns: Arrow's, their names in the language, and what kind of values they hold.

A frame's schema has the type of each column, and whether it allows missing values (``pyarrow.Field.nullable``). The
partitions of a frame are ``pyarrow.Table`` with exactly these types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from dask.base import normalize_token

from pipeline.config.type_names import MORE_TYPES, TYPES, UNITS, TypeName, taken_apart
from pipeline.errors import OpError
from pipeline.graph.late_pandas import delay_pandas

__all__ = [
    "common_type",
    "conform",
    "declared_type",
    "empty_table",
    "family",
    "field_of",
    "is_integer",
    "is_text",
    "least_bytes",
    "natural_type",
    "register_tokens",
    "replaced",
    "schema_of",
    "type_name",
]

delay_pandas()  # here, since everything that handles frames imports this, in each process

_SIMPLE: Mapping[str, pa.DataType] = {
    "bool": pa.bool_(),
    **{f"{u}int{n}": getattr(pa, f"{u}int{n}")() for u in ("", "u") for n in (8, 16, 32, 64)},
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "category": pa.dictionary(pa.int32(), pa.string()),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "duration": pa.duration("us"),
}


def declared_type(name: str, field: str) -> pa.DataType:
    """Return the Arrow type of a type of the language; ``field`` is the key that names it.

    Raises
    ------
    OpError : if there is no such type

    >>> declared_type("timestamp[UTC]", "cast"), declared_type("decimal(12, 2)", "cast")
    (TimestampType(timestamp[us, tz=UTC]), Decimal128Type(decimal128(12, 2)))
    """
    named = taken_apart(name)
    if named is None or not _are_zones(named):
        raise OpError(field, f"{name!r} is no type; types are {', '.join(TYPES)}, {MORE_TYPES}")
    return _arrow(named)


def _arrow(named: TypeName) -> pa.DataType:
    kind, unit = named.kind, named.unit or "us"
    members = [pa.field(name, _arrow(member)) for name, member in named.members]
    if kind == "decimal":
        return pa.decimal128(*named.digits)
    if kind == "list":
        return pa.list_(members[0].type)
    if kind == "struct":
        return pa.struct(members)
    if kind == "timestamp":
        return pa.timestamp(unit, named.zone or None)
    if kind == "duration":
        return pa.duration(unit)
    if kind == "time":
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    return _SIMPLE[kind]


def _are_zones(named: TypeName) -> bool:
    """Return whether the zones of a type, and of its members, are there."""
    if named.zone:
        try:
            pa.scalar(0, pa.timestamp("us", named.zone)).as_py()
        except (ValueError, KeyError, OSError):
            return False
    return all(_are_zones(member) for _, member in named.members)


def type_name(kind: pa.DataType) -> str:
    """Return the name of a type in the language.

    >>> type_name(pa.timestamp("us", "UTC")), type_name(pa.decimal128(12, 2)), type_name(pa.string())
    ('timestamp[UTC]', 'decimal(12, 2)', 'string')
    """
    t = pa.types
    for name, known in _SIMPLE.items():
        if kind == known:
            return name
    if is_text(kind):
        return "string"
    if t.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    if t.is_timestamp(kind):
        parts = [*([kind.unit] if kind.unit != "us" else []), *([kind.tz] if kind.tz else [])]
        return f"timestamp[{', '.join(parts)}]"
    if t.is_duration(kind) or t.is_time(kind):
        return f"{'duration' if t.is_duration(kind) else 'time'}[{kind.unit}]"
    if t.is_date(kind):
        return "date"
    if t.is_dictionary(kind):
        return "category"
    if _is_list(kind):
        return f"list[{type_name(kind.value_type)}]"
    if t.is_struct(kind):
        members = ", ".join(f"{member.name}: {type_name(member.type)}" for member in kind)
        return f"struct[{members}]"
    if t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind):
        return "binary"
    return str(kind)


def family(kind: pa.DataType) -> str:
    """Return what a type holds: ``number``, ``true/false``, ``text``, ``date``, ``time`` (a timestamp), ``zoned time``,
    ``duration``, ``time of day``, ``binary``, ``list`` or ``struct``; of categories what they are categories of."""
    t = pa.types
    if t.is_dictionary(kind):
        return family(kind.value_type)
    if t.is_boolean(kind):
        return "true/false"
    if t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind) or t.is_null(kind):
        return "number"
    if is_text(kind):
        return "text"
    if t.is_date(kind):
        return "date"
    if t.is_timestamp(kind):
        return "zoned time" if kind.tz else "time"
    if t.is_duration(kind):
        return "duration"
    if t.is_time(kind):
        return "time of day"
    if t.is_struct(kind):
        return "struct"
    return "list" if _is_list(kind) else "binary"


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is text, however it is stored."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_integer(kind: pa.DataType) -> bool:
    """Return whether a type holds whole numbers of 8 to 64 bits."""
    return bool(pa.types.is_integer(kind))


def _is_list(kind: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind) or t.is_list_view(kind))


def natural_type(stored: pa.DataType) -> pa.DataType:
    """Return the type of a column in a frame, of what a file or another library has.

    Text of all forms is ``string``, binary ``binary``, lists ``list``, days ``date32``; decimals have at most 38
    digits; categories of text have 32-bit codes, others become their values; a column without any value is
    ``float64``. All other types stay as they are.

    Raises
    ------
    OpError : a type that a frame can't hold
    """
    t = pa.types
    if is_text(stored):
        return pa.string()
    if t.is_null(stored):
        return pa.float64()
    if t.is_dictionary(stored):
        value = natural_type(stored.value_type)
        return pa.dictionary(pa.int32(), pa.string()) if is_text(value) else value
    if t.is_decimal(stored):
        if stored.precision > 38:
            raise OpError("", f"has the type {stored}; decimals of a frame have at most 38 digits")
        return pa.decimal128(stored.precision, stored.scale)
    if t.is_date(stored):
        return pa.date32()
    if t.is_struct(stored):
        return pa.struct([pa.field(member.name, natural_type(member.type)) for member in stored])
    if _is_list(stored):
        return pa.list_(natural_type(stored.value_type))
    if t.is_map(stored):
        members = [pa.field("key", natural_type(stored.key_type)), pa.field("value", natural_type(stored.item_type))]
        return pa.list_(pa.struct(members))
    if t.is_boolean(stored) or t.is_integer(stored) or t.is_floating(stored) or t.is_timestamp(stored):
        return stored
    if t.is_duration(stored) or t.is_time(stored):
        return stored
    if t.is_binary(stored) or t.is_large_binary(stored) or t.is_fixed_size_binary(stored) or t.is_binary_view(stored):
        return pa.binary()
    raise OpError("", f"has the type {stored}, which a frame can't hold")


def common_type(types: Sequence[pa.DataType]) -> pa.DataType | None:
    """Return the type that holds the values of all of these exactly; None if there is none.

    Whole numbers become the narrowest whole numbers that hold both (int64 and uint64: none); whole numbers up to 32
    bits and floats float64; whole numbers and decimals a decimal; times the finer unit.

    >>> common_type([pa.int8(), pa.uint8()]), common_type([pa.int64(), pa.float64()])
    (DataType(int16), None)
    """
    common = types[0]
    for other in types[1:]:
        found = _common(common, other)
        if found is None:
            return None
        common = found
    return common


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    t = pa.types
    if one == other:
        return one
    if t.is_dictionary(one) or t.is_dictionary(other):
        plain = [kind.value_type if t.is_dictionary(kind) else kind for kind in (one, other)]
        return _common(*plain)
    if is_text(one) and is_text(other):
        return pa.string()
    if t.is_integer(one) and t.is_integer(other):
        return _common_integer(one, other)
    if t.is_decimal(one) or t.is_decimal(other):
        return _common_decimal(one, other)
    if (t.is_integer(one) or t.is_floating(one)) and (t.is_integer(other) or t.is_floating(other)):
        widths = [kind.bit_width for kind in (one, other) if t.is_integer(kind)]
        if widths and max(widths) > 32:
            return None
        if widths:
            small = max(widths) <= 16 and all(k.bit_width <= 32 for k in (one, other) if t.is_floating(k))
            return pa.float32() if small else pa.float64()
        return one if one.bit_width >= other.bit_width else other
    for test, make in (
        (t.is_timestamp, lambda unit: pa.timestamp(unit, one.tz)),
        (t.is_duration, pa.duration),
        (t.is_time, lambda unit: pa.time64(unit) if unit in ("us", "ns") else pa.time32(unit)),
    ):
        if test(one) and test(other):
            if test is t.is_timestamp and one.tz != other.tz:
                return None
            return make(max(one.unit, other.unit, key=UNITS.index))
    if _is_list(one) and _is_list(other):
        inner = _common(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    return None


def _common_integer(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    signed = [pa.types.is_signed_integer(kind) for kind in (one, other)]
    if signed[0] == signed[1]:
        return one if one.bit_width >= other.bit_width else other
    whole, natural = (one, other) if signed[0] else (other, one)
    width = max(whole.bit_width, 2 * natural.bit_width)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(width)


def _common_decimal(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    digits = {8: 3, 16: 5, 32: 10, 64: 20}
    pairs = []
    for kind in (one, other):
        if pa.types.is_decimal(kind):
            pairs.append((kind.precision - kind.scale, kind.scale))
        elif pa.types.is_integer(kind):
            pairs.append((digits[kind.bit_width] - (kind == pa.int64()), 0))
        else:
            return None
    before, scale = max(n for n, _ in pairs), max(n for _, n in pairs)
    return pa.decimal128(before + scale, scale) if before + scale <= 38 else None


def schema_of(types: Mapping[str, pa.DataType], nullable: bool = True) -> pa.Schema:
    """Return the schema of columns by name, all of which allow missing values, or none."""
    return pa.schema([pa.field(name, kind, nullable) for name, kind in types.items()])


def field_of(schema: pa.Schema, name: str) -> pa.Field:
    """Return the column of a name; names are unique."""
    return schema.field(schema.get_field_index(name))


def replaced(schema: pa.Schema, fields: Sequence[pa.Field]) -> pa.Schema:
    """Return the schema with columns replaced in their places, or added at the end."""
    new = {field.name: field for field in schema} | {field.name: field for field in fields}
    return pa.schema(list(new.values()))


def least_bytes(kind: pa.DataType) -> float:
    """Return the bytes that a value of a column takes at least; of text and lists those of where it ends."""
    if pa.types.is_struct(kind) or pa.types.is_null(kind):
        return 0.0
    try:
        return float(kind.bit_width) / 8
    except ValueError:  # of no fixed length
        return 4.0


def empty_table(schema: pa.Schema) -> pa.Table:
    """Return a table without rows."""
    return pa.Table.from_arrays([pa.chunked_array([], field.type) for field in schema], schema=schema)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns of a schema, in its order and types.

    Raises
    ------
    pa.ArrowInvalid : a value that does not fit
    """
    columns = []
    for field in schema:
        column = table.column(table.schema.get_field_index(field.name))
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def register_tokens() -> None:
    """Have dask describe types by their text, the same in every process; call it before ``tokenize``.

    dask registers its own when it first sees a type of Arrow, and again when ``dask.dataframe`` is imported.
    """
    normalize_token(pa.null())
    for kind in (pa.Schema, pa.Field, pa.DataType):
        normalize_token.register(kind, _described)


def _described(value: pa.Schema | pa.Field | pa.DataType) -> list[str]:
    if isinstance(value, pa.Schema):
        return ["schema", *(part for field in value for part in _described(field))]
    if isinstance(value, pa.Field):
        return [value.name, str(value.type), str(value.nullable)]
    return [str(value)]
