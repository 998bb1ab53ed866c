"""Digests of values: equal for equal values, whatever their memory; different, or unknown, for all others."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import os
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import xarray as xr
from any_tables import STORED, tables
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kept_values import VALUES
from strategies import SETTINGS

from pipeline.graph import canonical_encoding
from pipeline.graph.canonical_encoding import canonical
from pipeline.worker.value_digest import digest

Array = np.ndarray[Any, Any]


def of_numpy() -> st.SearchStrategy[Array]:
    """Small arrays, so that two of them are often equal, or equal but for dtype or shape."""
    kinds = st.sampled_from(["i1", "<i4", ">i4", "f4", "f8", "?", "c8", "U2", "S2", "M8[s]", "m8[ms]"])
    return kinds.flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    )


@SETTINGS
@given(of_numpy(), of_numpy())
def test_two_arrays_have_one_digest_if_they_are_equal_bit_by_bit(a: Array, b: Array) -> None:
    same = a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    assert (digest(a) == digest(b)) == same


@SETTINGS
@given(of_numpy())
def test_the_memory_of_an_array_does_not_matter(array: Array) -> None:
    spread = np.zeros((*array.shape, 2), array.dtype)
    spread[..., 1] = array
    assert digest(spread[..., 1]) == digest(np.array(array, order="F")) == digest(array.T.copy().T) == digest(array)


def test_a_large_array_that_is_not_contiguous_is_hashed_in_blocks() -> None:
    array = np.arange(3 << 19).reshape(3, -1)
    assert digest(array[:, ::-1]) == digest(array[:, ::-1].copy())
    assert digest(array.T) != digest(array)


@SETTINGS
@given(tables(STORED), tables(STORED), st.randoms())
def test_two_tables_have_one_digest_if_schema_and_values_are_equal(a: pa.Table, b: pa.Table, random: Any) -> None:
    assert (digest(a) == digest(b)) == (
        a.schema == b.schema and a.to_pylist() == b.to_pylist() and _bits(a) == _bits(b)
    )
    edges = sorted(random.randint(0, a.num_rows) for _ in range(3))
    pieces = [a.slice(i, j - i) for i, j in zip([0, *edges], [*edges, a.num_rows], strict=True)]
    padded = pa.concat_tables([a, *pieces, a]).slice(a.num_rows, a.num_rows)
    assert digest(pa.concat_tables(pieces)) == digest(padded) == digest(a)


def _bits(table: pa.Table) -> list[Any]:
    """The values of its floats as text, which tells 0.0 from -0.0; other columns have no equal values that differ."""
    return [repr(column.to_pylist()) for column in table.columns if pa.types.is_floating(column.type)]


OF_TYPES: list[tuple[pa.DataType, list[Any]]] = [
    *((kind, [[1], None, [2]]) for kind in (pa.list_view(pa.int64()), pa.large_list_view(pa.int64()))),
    *((kind, ["a", None, "bc"]) for kind in (pa.string_view(), pa.binary_view(), pa.large_binary())),
    (pa.list_(pa.int64(), 1), [[1], None, [2]]),
    (pa.list_(pa.string()), [["a", None], None, []]),
    (pa.dictionary(pa.int8(), pa.string()), ["a", None, "b"]),
    (pa.struct([("a", pa.int64())]), [{"a": 1}, None, {"a": None}]),
    (pa.map_(pa.string(), pa.int64()), [[("k", 1)], None, []]),
    (pa.decimal128(5, 2), [1, None, 2]),
    (pa.month_day_nano_interval(), [pa.MonthDayNano([1, 2, 3]), None, pa.MonthDayNano([0, 0, 1])]),
    (pa.uuid(), [b"0" * 16, None, b"1" * 16]),
]


@pytest.mark.parametrize(
    ("kind", "values"), OF_TYPES, ids=lambda value: str(value) if isinstance(value, pa.DataType) else ""
)
def test_columns_of_every_type_are_compared_by_their_values(kind: pa.DataType, values: list[Any]) -> None:
    array = pa.array(values, kind)
    again = pa.chunked_array([array.slice(1, 1), array.slice(2, 1), array.slice(0, 1)])
    turned = pa.chunked_array([array.slice(1, 2), array.slice(0, 1)])
    assert digest(pa.table({"a": again})) == digest(pa.table({"a": turned})) is not None
    assert digest(pa.table({"a": again})) != digest(pa.table({"a": array}))


def test_runs_of_equal_values_are_compared_as_values() -> None:
    runs = [pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), [1, 1, 2]) for ends in ([1, 2, 3], [1, 4, 5])]
    same = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), [1, 2])
    assert digest(pa.table({"a": runs[0]})) == digest(pa.table({"a": same})) is not None
    assert digest(pa.table({"a": runs[0]})) != digest(pa.table({"a": runs[1].slice(1, 3)}))


def test_bytes_under_missing_values_do_not_matter() -> None:
    valid = pa.py_buffer(bytes([0b101]))
    made = [pa.Array.from_buffers(pa.int32(), 3, [valid, pa.py_buffer(np.array([1, x, 3], "i4"))]) for x in (0, 77)]
    assert digest(pa.table({"a": made[0]})) == digest(pa.table({"a": made[1]}))
    masked = [np.ma.masked_array([1, x, 3], [0, 1, 0]) for x in (0, 77)]
    assert digest(masked[0]) == digest(masked[1])
    integers = [pd.array([1, x, 3], dtype="Int64") for x in (0, 77)]
    for one in integers:
        one[1] = pd.NA
    assert digest(pd.Series(integers[0])) == digest(pd.Series(integers[1]))


def test_bytes_between_the_fields_of_records_do_not_matter() -> None:
    aligned = np.dtype([("a", "i1"), ("b", "i8")], align=True)
    zeros, ones = np.zeros(2, aligned), np.frombuffer(bytearray(b"\1" * 32), aligned)
    ones["a"], ones["b"] = 0, 0
    assert zeros.tobytes() != ones.tobytes()
    assert digest(zeros) == digest(ones)
    assert digest(np.zeros(2, np.longdouble)) == digest(np.zeros(4, np.longdouble)[::2])


# ---------------------------------------------------------------------------------------------------------------------
# All kinds
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VALUES)
def test_a_value_has_the_digest_of_one_made_in_the_same_way(name: str) -> None:
    assert digest(VALUES[name]()) == digest(VALUES[name]()) is not None


def test_no_two_of_many_values_have_the_same_digest() -> None:
    found = {name: digest(make()) for name, make in VALUES.items()}
    assert len(set(found.values())) == len(found)


def test_digests_are_the_same_in_every_process_and_version() -> None:
    """A change of these constants means that every cache is computed again: then raise the version in the module."""
    assert digest(np.arange(3, dtype="<i8")) == "d040eedcb428aede4bd88c83589a5493"
    assert digest(pa.table({"a": [1, None], "b": ["x", "y"]})) == "31950002e7f66ff5d83008c61b9c0afb"
    assert digest({"names": {"a", "b", "c", "d"}, "n": [1, 2.5, None]}) == "d8b6eebfeec48cd98a7462671f5a1d75"


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Fit:
    rmse: float
    weights: Any


Pair = namedtuple("Pair", "x y")

DIFFERENT: list[tuple[Any, Any]] = [
    *((1, 1.0), (1, True), (0.0, -0.0), (1, np.int64(1)), (np.float32(1), np.float64(1)), ("a", b"a"), (None, "None")),
    *(([1, 2], (1, 2)), ([1], [[1]]), ([], [[]]), ([[1], [2, 3]], [[1, 2], [3]]), (["ab", "c"], ["a", "bc"])),
    *(({1}, frozenset({1})), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({"a": 1}, OrderedDict(a=1)), ({1: 2}, {1: 2.0})),
    *((Point(1, 2), Pair(1, 2)), (Point(1, 2), (1, 2)), (Colour.RED, Colour.BLUE), (Fit(1.0, [1]), Fit(1.0, [2]))),
    (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
    (datetime.datetime(2020, 1, 1), datetime.date(2020, 1, 1)),
    (datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)),
    (np.array(["a", None], object), np.array(["a", "None"], object)),
    (np.zeros(2), np.zeros((2, 1))),
    (np.zeros(2), np.zeros(2, ">f8")),
    (np.zeros(2, "M8[s]"), np.zeros(2, "M8[ms]")),
    (np.ma.masked_array([1, 2], [0, 1]), np.ma.masked_array([1, 2], [0, 0])),
    (np.matrix([[1]]), np.array([[1]])),
    (pa.table({"a": [1]}), pa.table({"a": pa.array([1], pa.int32())})),
    (pa.table({"a": [1]}), pa.table({"a": [1]}, schema=pa.schema([pa.field("a", pa.int64(), nullable=False)]))),
    (pa.table({"a": [1]}), pa.table({"b": [1]})),
    (pa.table({"a": ["x"]}), pa.table({"a": pa.array(["x"]).dictionary_encode()})),
    (pd.Series([1], name="a"), pd.Series([1], name="b")),
    (pd.Series([1.0]), pd.Series([1.0], index=[1])),
    (pd.Series(["a"], dtype="category"), pd.Series(pd.Categorical(["a"], ["a", "b"]))),
    (pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"b": [2], "a": [1]})),
    (pd.Timestamp("2020"), pd.Timestamp("2020", tz="UTC")),
    (pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [1.0]})),
    (xr.DataArray([1], dims="x"), xr.DataArray([1], dims="y")),
    (xr.DataArray([1], dims="x"), xr.DataArray([1], dims="x", attrs={"units": "K"})),
    (xr.DataArray([1], dims="x"), xr.DataArray([1], dims="x", coords={"x": [1]})),
    (scipy.sparse.csr_array([[1, 0]]), scipy.sparse.csr_array([[0, 1]])),
]


@pytest.mark.parametrize(("a", "b"), DIFFERENT, ids=lambda value: type(value).__name__)
def test_values_that_differ_in_type_or_form_have_two_digests(a: Any, b: Any) -> None:
    assert digest(a) is not None
    assert digest(b) is not None
    assert digest(a) != digest(b)
    assert digest([a]) != digest([b])


EQUAL: list[tuple[Any, Any]] = [
    ({"x", "y", "z"}, {"z", "y", "x"}),
    (float("nan"), float("nan")),
    ([float("nan"), 1.0], [float("nan"), 1.0]),
    (pa.table({"a": pa.array(["x", "y"]).dictionary_encode()}), pa.table({"a": pa.DictionaryArray.from_arrays(
        pa.array([1, 0], pa.int32()), pa.array(["y", "x"]))})),
    (pd.DataFrame({"a": [1, 2], "b": [3, 4]}), pd.DataFrame(np.array([[1, 3], [2, 4]]), columns=["a", "b"])),
    (pd.DataFrame({"a": ["x", "y", "z"]})[1:], pd.DataFrame({"a": ["x", "y", "z"]})[1:].copy()),
    (xr.Dataset({"a": 1, "b": 2}), xr.Dataset({"a": 1, "b": 2}).copy(deep=True)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), EQUAL, ids=lambda value: type(value).__name__)
def test_values_that_are_equal_have_one_digest(a: Any, b: Any) -> None:
    assert digest(a) == digest(b) is not None


class Model:
    """A class of the user's."""


class Reduced(Point):
    """A named tuple that says how it is pickled."""

    def __reduce__(self) -> Any:
        return Point, (0, 0)


def _cycle() -> Any:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


UNKNOWN: list[Callable[[], Any]] = [
    *(object, Model, _cycle, lambda: test_values_that_are_equal_have_one_digest, lambda: lambda: 1),
    *(lambda: [1, {"a": Model()}], lambda: {Model()}, lambda: Fit(1.0, Model()), lambda: Reduced(1, 2)),
    *(
        lambda: np.array([Model()], object),
        lambda: pd.Series([Model()]),
        lambda: xr.DataArray([1], attrs={"m": Model()}),
    ),
    *(lambda: xr.DataArray(np.ones(4), dims="x").chunk(), lambda: (i for i in range(3)), lambda: os.environ),
    *(lambda: pl.LazyFrame({"a": [1]}), lambda: type("Own", (np.ndarray,), {})(3)),
]


@pytest.mark.parametrize("make", UNKNOWN)
def test_what_is_not_known_has_no_digest(make: Callable[[], Any]) -> None:
    assert digest(make()) is None


def test_what_has_too_many_members_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical_encoding, "_MOST", 1000)
    value: Any = [1]
    for _ in range(60):  # 2 ** 60 members, since what is shared counts each time
        value = [value, value]
    assert digest(value) is None
    assert digest([[i, "a"] for i in range(5000)]) is not None


def test_the_order_of_keys_can_be_left_out() -> None:
    one, other = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert canonical(one) != canonical(other)
    assert canonical(one, sort_keys=True) == canonical(other, sort_keys=True)
    assert canonical([one] * 2, sort_keys=True) == canonical([other] * 2, sort_keys=True)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.floats(width=16)
    | st.text("ab", max_size=2)
    | st.binary(max_size=1),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text("ab", max_size=1), inner)
    ),
    max_leaves=6,
)


@SETTINGS
@given(PLAIN, PLAIN)
def test_two_plain_values_have_one_encoding_if_they_look_the_same(a: Any, b: Any) -> None:
    assert (canonical(a) == canonical(b)) == (repr(a) == repr(b))
    assert (canonical([a, a]) == canonical([a, b])) == (repr(a) == repr(b))
