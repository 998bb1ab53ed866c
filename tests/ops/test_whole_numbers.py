"""Whole numbers of any width, among them the extreme ones: a result is that of Python's ints, or the task fails."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from named_ops import arrays as array
from named_ops import sources as source
from strategies import SETTINGS, cut
from test_expression_values import over_arrays, over_columns, over_numpy, table_of_arrays

from pipeline.config.expressions.expression import parse
from pipeline.config.expressions.references import ExpressionError
from pipeline.errors import DataError, OpError
from pipeline.ops.conversions import checked
from pipeline.ops.frames.cast import cast_column

WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
FAILS = (DataError, ExpressionError)


def extremes(dtype: str) -> list[Any]:
    """The smallest and largest numbers of a dtype, those near a float's precision, and some between."""
    if dtype in FLOATS:
        return [0.0, 0.5, -1.5, 2.0**11, 2.0**15, *(v for v in (2.0**53, -(2.0**63), 2.0**64) if dtype == "float64")]
    limits = np.iinfo(dtype)
    near = [0, 1, 2, 7, -1, -3, 2**31 + 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**62, 2**63 - 1]
    return sorted({limits.min, limits.min + 1, limits.max - 1, limits.max, *near} & set(range_of(dtype, near)))


def range_of(dtype: str, near: list[int]) -> list[int]:
    limits = np.iinfo(dtype)
    return [v for v in [limits.min, limits.min + 1, limits.max - 1, limits.max, *near] if limits.min <= v <= limits.max]


def holds(dtype: np.dtype[Any], value: Any) -> bool:
    """Whether a dtype has exactly this number."""
    if dtype.kind == "b":
        return value in (0, 1)
    if dtype.kind == "f":
        return abs(value) < 2**1000 and dtype.type(float(value)) == float(value) and Fraction(float(value)) == value
    return np.iinfo(dtype).min <= value <= np.iinfo(dtype).max and value == int(value)


def exactly(got: Any, wanted: list[Any]) -> bool:
    return [Fraction(v) for v in np.asarray(got).tolist()] == [Fraction(v) for v in wanted]


IN_COLUMNS = {"int8", "int64", "uint64", "float64"}


def judge(text: str, pairs: list[tuple[Any, Any]], dtypes: tuple[str, str], exact: Callable[[Any, Any], Any]) -> None:
    """Check ``text`` of a and b: right for all pairs whose result the dtype holds, an error for each other pair.

    In columns as in arrays, but that a division by zero is missing there.
    """
    right, wrong, zero = [], [], []
    kind = over_numpy(text, {name: np.zeros(0, d) for name, d in zip("ab", dtypes, strict=True)}).dtype
    for a, b in pairs:
        try:
            (right if holds(kind, exact(a, b)) else wrong).append((a, b))
        except ZeroDivisionError:
            zero.append((a, b))
    wanted = [exact(a, b) for a, b in right]
    got = over_numpy(text, data_of(right, dtypes))
    assert got.dtype == kind
    assert exactly(got, wanted), (text, dtypes)
    for pair in [*wrong, *zero]:
        with pytest.raises(FAILS):
            raise AssertionError(over_numpy(text, data_of([pair], dtypes)))
    if not set(dtypes) <= IN_COLUMNS:  # each pair costs a statement
        return
    column = over_columns(text, table_of_arrays(data_of([*right, *zero], dtypes)))
    assert column.type == pa.from_numpy_dtype(kind), (text, dtypes)
    assert [v if v is None else Fraction(v) for v in column.to_pylist()] == [
        *map(Fraction, wanted),
        *[None] * len(zero),
    ]
    for pair in wrong[:1]:
        with pytest.raises(FAILS):
            raise AssertionError(over_columns(text, table_of_arrays(data_of([pair], dtypes))))


def data_of(pairs: list[tuple[Any, Any]], dtypes: tuple[str, str]) -> dict[str, Any]:
    return {name: np.array([p[i] for p in pairs], dtypes[i]) for i, name in enumerate("ab")}


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "a + b": operator.add,
    "a - b": operator.sub,
    "a * b": operator.mul,
    "a // b": operator.floordiv,
    "a % b": operator.mod,
    "minimum(a, b)": min,
    "maximum(a, b)": max,
    "where(a > b, a, b)": max,
    "fill(where(b < 0, a, a), b)": lambda a, b: a,
}


def pairs_of(*dtypes: str) -> list[tuple[Any, Any]]:
    return list(itertools.product(*map(extremes, dtypes)))


@pytest.mark.parametrize("text", ARITHMETIC)
def test_pairs_of_whole_numbers(text: str) -> None:
    for dtypes in itertools.product(WHOLE, repeat=2):
        judge(text, pairs_of(*dtypes), dtypes, ARITHMETIC[text])


def test_powers() -> None:
    exponents = [0, 1, 2, 3, 7, 31, 62, 63, 64, 127, -1]
    for a, b in itertools.product(WHOLE, ("int8", "int64", "uint64")):
        pairs = [(x, y) for x, y in itertools.product(extremes(a), exponents) if y >= 0 or b[0] == "i"]
        judge("a ** b", pairs, (a, b), lambda x, y: x**y if y >= 0 else Fraction(1, 2))


@pytest.mark.parametrize(("text", "exact"), [
    ("-a", operator.neg), ("+a", operator.pos), ("abs(a)", abs), ("sign(a)", lambda a: (a > 0) - (a < 0)),
    ("floor(a)", int), ("ceil(a)", int), ("round(a, 2)", int), ("round(a, -1)", lambda a: round(a, -1)),
    ("round(a, -19)", lambda a: round(a, -19)), ("integer(a)", int),
    ("clip(a, -3, 7)", lambda a: min(max(a, -3), 7)),
    ("a * 1000", lambda a: a * 1000), ("a - 300", lambda a: a - 300), ("2 ** 63 - a", lambda a: 2**63 - a),
    ("a + 2 ** 62", lambda a: a + 2**62), ("a // -1", lambda a: a // -1), ("a % -7", lambda a: a % -7),
    ("a ** 2", lambda a: a * a), ("where(a > 0, a, 300)", lambda a: a if a > 0 else 300),
    ("maximum(a, 2 ** 63)", lambda a: max(a, 2**63)), ("minimum(a, -(2 ** 63))", lambda a: min(a, -(2**63))),
])  # fmt: skip
def test_one_whole_number(text: str, exact: Callable[[Any], Any]) -> None:
    for dtype in WHOLE:
        judge(text, [(v, 0) for v in extremes(dtype)], (dtype, "int8"), lambda a, _: exact(a))


@pytest.mark.parametrize("op", ["<", "<=", ">", ">=", "==", "!=", "in"])
def test_comparisons_are_exact(op: str) -> None:
    exact = getattr(operator, {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "!=": "ne"}.get(op, "eq"))
    for a, b in itertools.product((*WHOLE, *FLOATS), repeat=2):
        if op == "in":
            for constant in extremes(b)[:9] if a == "int64" or b == "float64" else ():
                pairs = [(v, constant) for v in extremes(a)]
                judge(f"a in [{constant!r}, -2.5]", pairs, (a, b), exact)
        else:
            judge(f"a {op} b", pairs_of(a, b), (a, b), exact)


def test_chosen_whole_numbers_beside_floats_are_not_rounded() -> None:
    for text in ("minimum(a, b)", "maximum(a, b)", "where(a > b, a, b)"):
        for dtypes in itertools.chain(itertools.product(WHOLE, FLOATS), itertools.product(FLOATS, WHOLE)):
            judge(text, pairs_of(*dtypes), dtypes, min if "min" in text else max)


def test_the_type_is_known_before_the_run() -> None:
    texts = (
        "a - b",
        "a * 300",
        "a // b",
        "minimum(a, b)",
        "where(a > b, a, b)",
        "abs(a) ** 2",
        "a / b",
        "round(a, -1)",
    )
    dtypes = ("int8", "uint64", "float32", "bool")
    for (a, b), text in itertools.product(itertools.product(dtypes, repeat=2), texts):
        lazy = over_arrays(text, {"a": chunked([1, 1], a, 2), "b": chunked([1, 1], b, 2)})
        assert lazy.compute(scheduler="sync").dtype == lazy.dtype, (text, a, b)


def chunked(values: Any, dtype: str, chunks: Any = 2, dims: str = "xy") -> xr.DataArray:
    array = np.array(values, dtype)
    return xr.DataArray(da.from_array(array, chunks=chunks), dims=list(dims[: array.ndim]))


@pytest.mark.parametrize(("text", "message"), [
    ("a - b", "'a - b' at [x=2, y=1]: -2 - 9223372036854775807 is -9223372036854775809, which int64 can't hold; write"),
    ("b // (a + 2)", "at [x=2, y=0]: 7 // 0 is not defined; divide by"),
    ("abs(a - (2 ** 63 - 2))", "at [x=2, y=0]: -(-9223372036854775808) is 9223372036854775808, which int64 can't hold"),
    ("b ** a", "at [x=2, y=0]: 7 ** -2 is no whole number; write number(x)"),
    ("integer(b * 2.0)", "at [y=1]: 1.8446744073709552e+19 is a value that int64 can't hold"),
])  # fmt: skip
def test_an_error_says_where_it_is(text: str, message: str) -> None:
    a = chunked([[1, 1, 1], [1, 1, 1], [-2, -2, -2]], "int64", (2, 3))
    b = chunked([7, 2**63 - 1, 7], "int64", 3, dims="y")
    with pytest.raises(DataError) as caught:
        over_arrays(text, {"a": a, "b": b}).compute(scheduler="sync")
    assert message in str(caught.value)


def test_a_division_that_only_the_run_knows_is_checked_there() -> None:
    x = {"a": chunked(7, "int64", ()), "b": chunked(1, "int64", ())}
    assert over_arrays("a // (b - 3)", x).compute(scheduler="sync") == -4
    with pytest.raises(DataError, match="is not defined"):
        over_arrays("a % (b - 1)", x).compute(scheduler="sync")


def test_columns_divided_by_zero_are_missing() -> None:
    table = pa.table({"a": [7, 2**53 + 1], "b": [2, 0]})
    assert over_columns("a // b", table).to_pylist() == [3, None]
    assert over_columns("a % b == 1", table).to_pylist() == [True, False]
    assert over_columns("a // (b + 1)", table).to_pylist() == [2, 2**53 + 1]


@pytest.mark.parametrize(("text", "message"), [
    ("a * 4096", "'a * 4096': 9007199254740993 * 4096 is 36893488147419107328, which int64 can't hold; write number"),
    ("a + 2 ** 63 - 1", "9232379236109516801 is a value that int64 can't hold"),
    ("-low", "'-low': 0 - -9223372036854775808 is 9223372036854775808, which int64 can't hold"),
    ("abs(low)", "'abs(low)': -(-9223372036854775808) is 9223372036854775808, which int64 can't hold"),
    ("low // minus", "-9223372036854775808 // -1 is 9223372036854775808, which its type can't hold"),
    ("integer(big)", "18446744073709551615 is a value that int64 can't hold"),
    ("a ** a", "9007199254740993 ** 9007199254740993 which int64 can't hold"),
    ("2 ** minus", "2 ** -1 is no whole number"),
    ("where(a > 0, a, 0.5)", "9007199254740993 is a value that double can't hold; number(x) rounds it"),
])  # fmt: skip
def test_an_error_of_columns_says_what_was_computed(text: str, message: str) -> None:
    table = pa.table({"a": [2**53 + 1], "low": [-(2**63)], "minus": [-1], "big": pa.array([2**64 - 1], pa.uint64())})
    with pytest.raises(DataError) as caught:
        over_columns(text, table)
    assert message in str(caught.value)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_integer_of_a_float(dtype: str) -> None:
    kept = [0.0, -0.9, 2.5, -(2.0**63), 2.0**62]
    assert over_numpy("integer(x)", {"x": np.array(kept, dtype)}).tolist() == [int(v) for v in kept]
    for value in (1e19, 2.0**63, -1e19, np.nan, np.inf):
        with pytest.raises(FAILS):
            over_numpy("integer(x)", {"x": np.array([1, value], dtype)})


# ---------------------------------------------------------------------------------------------------------------------
# Sums
# ---------------------------------------------------------------------------------------------------------------------

Row = list[int]
SUMS: dict[str, tuple[Callable[[xr.DataArray], xr.DataArray], Callable[[Row], list[Any]]]] = {
    "sum": (array.sum, lambda v: [sum(v)]),
    "cumsum": (lambda x: array.cumsum(x, axis="x"), lambda v: list(itertools.accumulate(v))),
    "min": (array.min, lambda v: [min(v)]),
    "max": (array.max, lambda v: [max(v)]),
    "groupby": (lambda x: array.groupby(labelled(x), by=parse("zone", "coords"), agg="sum"), lambda v: halves(v, sum)),
    "groupby max": (
        lambda x: array.groupby(labelled(x), by=parse("zone", "coords"), agg="max"),
        lambda v: halves(v, max),
    ),
    "resample": (lambda x: array.resample(timed(x), rule={"x": "2D"}, agg="sum"), lambda v: in_pairs(v, sum)),
    "resample with gaps": (
        lambda x: array.resample(timed(x, "4D"), rule={"x": "2D"}, agg="max"),
        lambda v: [part for each in v for part in (each, None)][:-1],
    ),
    "coarsen": (lambda x: array.coarsen(x, window={"x": 2}, agg="sum", boundary="trim"), lambda v: in_pairs(v, sum, 2)),
    "rolling": (
        lambda x: array.rolling(x, window={"x": 2}, agg="sum", min_periods=1),
        lambda v: [sum(v[max(i - 1, 0) : i + 1]) for i in range(len(v))],
    ),
    "rolling min": (
        lambda x: array.rolling(x, window={"x": 2}, agg="min", min_periods=1),
        lambda v: [min(v[max(i - 1, 0) : i + 1]) for i in range(len(v))],
    ),
    "matmul": (lambda x: array.matmul(x, x), lambda v: [sum(i * i for i in v)]),
    "tensordot": (lambda x: array.tensordot(x, signs(x)), lambda v: [sum(i * (-1) ** k for k, i in enumerate(v))]),
    "einsum": (lambda x: array.einsum(x, signs(x), x, subscripts="x, x, x -> "),
               lambda v: [sum(i * i * (-1) ** k for k, i in enumerate(v))]),
    "outer": (lambda x: array.einsum(x, x, subscripts="a, b -> a b"), lambda v: [i * j for i in v for j in v]),
}  # fmt: skip


def halves(v: Row, function: Callable[[Row], int]) -> Row:
    return [function(part) for part in (v[::2], v[1::2]) if part]


def in_pairs(v: Row, function: Callable[[Row], int], least: int = 1) -> Row:
    return [function(v[i : i + 2]) for i in range(0, len(v), 2) if len(v[i : i + 2]) >= least]


def labelled(x: xr.DataArray) -> xr.DataArray:
    return x.assign_coords(zone=("x", np.arange(x.size) % 2))


def timed(x: xr.DataArray, step: str = "D") -> xr.DataArray:
    return x.assign_coords(x=pd.date_range("2001-01-01", periods=x.size, freq=step))


def signs(x: xr.DataArray) -> xr.DataArray:
    return chunked((-1) ** np.arange(x.size), "int8", 3)


def rows(draw: st.DrawFn, dtype: str) -> tuple[Row, xr.DataArray]:
    values = draw(st.lists(st.sampled_from(extremes(dtype)) | st.integers(0, 9), min_size=2, max_size=7))
    return values, chunked(values, dtype, (draw(cut(len(values))),))


@st.composite
def rows_of_any_type(draw: st.DrawFn) -> tuple[Row, xr.DataArray]:
    """Some whole numbers, and an array of them in chunks."""
    return rows(draw, draw(st.sampled_from(("int64", "uint64", *WHOLE))))


@SETTINGS
@given(row=rows_of_any_type())
@pytest.mark.parametrize("name", SUMS)
def test_sums_are_exact_or_fail(name: str, row: tuple[Row, xr.DataArray]) -> None:
    values, x = row
    function, exact = SUMS[name]
    lazy, wanted = function(x), exact(values)
    if name == "rolling min" and not all(holds(lazy.dtype, v) for v in values):
        wanted = values  # every value is converted to float64
    if not all(w is None or holds(lazy.dtype, w) for w in wanted):
        with pytest.raises(DataError, match="can't hold"):
            lazy.compute(scheduler="sync")
        return
    got = lazy.compute(scheduler="sync")
    assert got.dtype == lazy.dtype
    found = [None if v != v else Fraction(v) for v in got.values.ravel().tolist()]
    assert found == [w if w is None else Fraction(w) for w in wanted]


@SETTINGS
@given(row=rows_of_any_type())
def test_means_and_variances_of_whole_numbers_round_once(row: tuple[Row, xr.DataArray]) -> None:
    values, x = row
    mean = Fraction(sum(values), len(values))
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    for got, wanted in [
        (array.mean(x), mean),
        (array.groupby(x.assign_coords(zone=("x", [0] * x.size)), by=parse("zone", "coords"), agg="mean"), mean),
        (array.var(x, ddof=0), variance),
        (
            array.groupby(x.assign_coords(zone=("x", [0] * x.size)), by=parse("zone", "coords"), agg="var", ddof=0),
            variance,
        ),
    ]:
        found = got.compute(scheduler="sync").values.ravel().tolist()
        rough = 2**-52 if wanted is mean else 2**-30
        assert abs(Fraction(found[0]) - wanted) <= abs(wanted) * Fraction(rough) + Fraction(1, 2**20) * (
            wanted is variance
        )


def test_sums_that_pass_64_bits_on_the_way() -> None:
    x = chunked([-(2**63), -(2**63), 1, 1, 2**63 - 1], "int64", 4)
    assert SUMS["groupby"][0](x).compute(scheduler="sync").values.tolist() == [0, 1 - 2**63]
    with pytest.raises(DataError, match="the sum 18446744073709551615 is a value that int64 can't hold"):
        SUMS["einsum"][0](chunked([-(2**63), 1 - 2**63], "int64", 1)).compute(scheduler="sync")


def test_a_sum_over_many_positions_does_not_wrap_on_the_way() -> None:
    values = np.zeros((600, 3), np.int64)
    values[:300], values[300:] = 2**62, -(2**62)
    values[0, 1], values[0, 2] = 5, 2**62 - 1
    x = xr.DataArray(da.from_array(values, chunks=(100, 2)), dims=["x", "y"])
    assert array.sum(x, axis="x").compute(scheduler="sync").values.tolist() == [0, 5 - 2**62, -1]
    assert array.sum(x).compute(scheduler="sync") == 4 - 2**62
    assert array.sum(x[:, 0] * 0 + 2**53 + 1).compute(scheduler="sync") == 600 * (2**53 + 1)
    with pytest.raises(DataError, match=r"the sum \d+ is a value that int64 can't hold"):
        array.cumsum(x[:, 0], axis="x").compute(scheduler="sync")


def test_counts_in_bins_of_large_whole_numbers() -> None:
    x = chunked([2**53 + 1, 2**53 + 3, 2**62 + 1, 2**62 - 1], "int64")
    counts = array.histogram(x, bins=[0, 2**53 + 2, 2**53 + 4, 2**62, 2**63])
    assert counts.compute(scheduler="sync").values.tolist() == [1, 1, 1, 1]


# ---------------------------------------------------------------------------------------------------------------------
# Casts: joined arrays, declared types, generated numbers
# ---------------------------------------------------------------------------------------------------------------------


def test_joined_arrays_keep_their_numbers() -> None:
    for a, b in itertools.product(("int8", "int64", "uint64", "float32", "float64", "bool"), repeat=2):
        for value in {0, 1} if a == "bool" else {extremes(a)[0], extremes(a)[-2], extremes(a)[-1]}:
            joined = array.concatenate(chunked([value, 0], a), chunked([1, 0], b), axis="x")
            if holds(joined.dtype, value):
                assert exactly(joined.compute(scheduler="sync").values, [value, 0, 1, 0])
            else:
                with pytest.raises(DataError, match="can't hold"):
                    joined.compute(scheduler="sync")
    with pytest.raises(DataError, match="18446744073709551615 is a value that int64 can't hold"):
        array.stack(chunked([-1], "int64"), chunked([2**64 - 1], "uint64"), dim="z").compute(scheduler="sync")


@pytest.mark.parametrize(("options", "wanted"), [
    ({"stop": 300, "dtype": "uint8"}, "dtype: the numbers reach 299, which uint8 can't hold"),
    ({"start": -1, "stop": 9, "dtype": "uint64"}, "dtype: the numbers reach -1, which uint64 can't hold"),
    ({"start": 2**63 - 9, "stop": 2**63 - 1, "step": 3}, [2**63 - 9, 2**63 - 6, 2**63 - 3]),
    ({"start": -(2**63) + 1, "stop": 2**63 - 1, "step": 2**62}, [-(2**63) + 1, -(2**62) + 1, 1, 2**62 + 1]),
    ({"start": 2**62, "stop": -(2**62), "step": -(2**62), "dtype": "int64"}, [2**62, 0]),
    ({"start": 250, "stop": 256, "step": 5, "dtype": "uint8"}, [250, 255]),
])  # fmt: skip
def test_ranges_hold_their_numbers(options: dict[str, Any], wanted: Any) -> None:
    if isinstance(wanted, str):
        with pytest.raises(OpError, match=wanted):
            source.arange(**options)
        return
    for chunks in (1, -1):
        assert source.arange(**options, chunks={"dim_0": chunks}).compute(scheduler="sync").values.tolist() == wanted


@pytest.mark.parametrize("options", [
    {"low": 0, "high": 300, "dtype": "uint8"}, {"low": -1, "high": 9, "dtype": "uint64"}, {"low": 0, "high": 2**63 + 1},
])  # fmt: skip
def test_random_integers_fit_their_type(options: dict[str, Any]) -> None:
    with pytest.raises(OpError, match=r"are drawn, which u?int"):
        source.random(shape={"x": 3}, distribution="integers", **options)
    fits = source.random(shape={"x": 50}, distribution="integers", low=250, high=256, dtype="uint8")
    assert set(fits.compute(scheduler="sync").values.tolist()) <= set(range(250, 256))
    with pytest.raises(DataError, match="int8 can't hold"):
        source.random(shape={"x": 50}, scale=1000.0, dtype="int8").compute(scheduler="sync")


@pytest.mark.parametrize(("value", "dtype"), [
    (2**53 + 1, "float64"), (2.0**63, "int64"), (2**63, "int64"), (300, "uint8"), (0.5, "int8"), (-1, "uint64"),
    (2**24 + 1, "float32"), (1e300, "float32"),
])  # fmt: skip
def test_values_that_a_declared_type_can_not_hold(value: Any, dtype: str) -> None:
    with pytest.raises(DataError, match="that don't fit into"):
        checked((1,), np.dtype(dtype), "", np.array([value]))
    with pytest.raises(OpError, match=r"constant_values: got .* which dtype"):
        array.pad(chunked([1, 2], dtype), pad_width={"x": [1, 1]}, constant_values=value)
    with pytest.raises(OpError, match=r"boundary: got .* which dtype"):
        array.map_overlap(chunked([1, 2], dtype), function="numpy:abs", depth={"x": 1}, boundary=value, dtype=dtype)
    if not isinstance(value, float):
        kind = pa.from_numpy_dtype(dtype)
        with pytest.raises(DataError, match="which does not fit"):
            cast_column("a", pa.chunked_array([pa.array(np.array([value]))]), kind, dtype)
