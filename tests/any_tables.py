"""Tables of every type that a file may hold, for hypothesis."""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from pipeline.graph.column_types import natural_type

__all__ = ["OF_FRAMES", "STORED", "tables"]

STORED: Mapping[str, pa.DataType] = {
    **{name: getattr(pa, name)() for name in ("int8", "int64", "uint8", "uint64", "float16", "float32", "float64")},
    "bool": pa.bool_(),
    "decimal": pa.decimal128(7, 2),
    "wide_decimal": pa.decimal256(38, 3),
    "text": pa.string(),
    "large_text": pa.large_string(),
    "binary": pa.binary(),
    "fixed_binary": pa.binary(2),
    "date": pa.date32(),
    **{f"time_{unit}": pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit) for unit in ("ms", "us", "ns")},
    **{f"timestamp_{unit}": pa.timestamp(unit) for unit in ("ms", "us", "ns")},
    "zoned": pa.timestamp("ns", "Africa/Cairo"),
    "duration": pa.duration("ns"),
    "category": pa.dictionary(pa.int8(), pa.string()),
    "list": pa.list_(pa.int16()),
    "list_of_texts": pa.large_list(pa.string()),
    "struct": pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
    "map": pa.map_(pa.string(), pa.int64()),
}
"""What files hold."""

OF_FRAMES = {name: natural_type(kind) for name, kind in STORED.items()}
"""What columns of frames hold."""


@st.composite
def tables(draw: st.DrawFn, types: Mapping[str, pa.DataType], *, least: int = 1, most: int = 6) -> pa.Table:
    """A table of some of the columns, and up to ``most`` rows, with missing values; floats are never NaN."""
    names = draw(st.lists(st.sampled_from(list(types)), min_size=least, max_size=6, unique=True))
    n = draw(st.integers(0, most))
    columns = {}
    for name in names:
        plain = pa.string() if pa.types.is_dictionary(types[name]) else types[name]
        values = draw(st.lists(st.none() | _values(plain), min_size=n, max_size=n))
        columns[name] = pa.array(values, plain).cast(types[name])
    return pa.table(columns)


def _values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Python values of a type, numbers for times."""
    t = pa.types
    if t.is_boolean(kind):
        return st.booleans()
    if t.is_integer(kind):
        low = 0 if t.is_unsigned_integer(kind) else -(2 ** (kind.bit_width - 1))
        return st.integers(low, low + 2**kind.bit_width - 1)
    if t.is_floating(kind):
        return st.floats(width=kind.bit_width, allow_nan=False)
    if t.is_decimal(kind):
        return st.integers(-(10**7) + 1, 10**7 - 1).map(lambda n: decimal.Decimal(n).scaleb(-kind.scale))
    if t.is_time(kind):
        return st.integers(0, 86_399 * {"ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit])
    if t.is_date(kind):
        return st.integers(-100_000, 100_000)
    if t.is_timestamp(kind) or t.is_duration(kind):
        return st.integers(-(2**40), 2**60 if kind.unit == "ns" else 2**40)
    if t.is_list(kind) or t.is_large_list(kind):
        return st.lists(st.none() | _values(kind.value_type), max_size=3)
    if t.is_struct(kind):
        return st.fixed_dictionaries({member.name: st.none() | _values(member.type) for member in kind})
    if t.is_map(kind):
        return st.dictionaries(st.text(max_size=2), _values(kind.item_type), max_size=2).map(lambda m: list(m.items()))
    if t.is_fixed_size_binary(kind):
        return st.binary(min_size=2, max_size=2)
    return st.binary(max_size=3) if t.is_binary(kind) else st.text(max_size=3)
