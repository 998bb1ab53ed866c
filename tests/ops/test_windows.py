"""Windows that move over ordered rows, and columns from the rows of the same group, against their definition."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import frame_of, table_of
from strategies import SETTINGS
from tables import in_order, records, with_frame

from pipeline.config.expressions import expression
from pipeline.errors import DataError, OpError
from pipeline.ops.frames.rolling import rolling
from pipeline.ops.frames.window import window

BOTH = st.booleans()


def aggs(**texts: str) -> dict[str, expression.Expression]:
    return {name: expression.parse(text, "agg") for name, text in texts.items()}


def cols(**texts: str) -> dict[str, expression.Expression]:
    return {name: expression.parse(text, "window") for name, text in texts.items()}


# ---------------------------------------------------------------------------------------------------------------------
# rolling
# ---------------------------------------------------------------------------------------------------------------------

MOVING = {
    "total": "sum(i)", "money": "sum(d)", "m": "mean(f)", "sd": "std(f, 0)", "med": "median(f)", "low": "min(s)",
    "high": "max(t)", "one": "first(i)", "end": "last(c)", "n": "count()", "present": "count(f)", "kinds": "nunique(s)",
    "some": "any(b)",
}  # fmt: skip


def moved(rows: Sequence[dict[str, Any]], least: int) -> dict[str, Any]:
    """The aggregates of one window; missing where it has too few values."""

    def of(name: str) -> list[Any]:
        return [row[name] for row in rows if row[name] is not None]

    def enough(name: str, found: Any) -> Any:
        return found(of(name)) if len(of(name)) >= max(least, 1) else None

    return {
        "total": enough("i", sum), "money": enough("d", sum), "m": enough("f", statistics.fmean),
        "sd": enough("f", statistics.pstdev), "med": enough("f", statistics.median), "low": enough("s", min),
        "high": enough("t", max), "one": enough("i", lambda v: v[0]), "end": enough("c", lambda v: v[-1]),
        "n": len(rows), "present": len(of("f")), "kinds": len(set(of("s"))), "some": any(of("b")),
    }  # fmt: skip


@SETTINGS
@given(
    with_frame([*"tifsbdc"]), st.sampled_from([1, 2, 3, 20, "1d", "36h", "40000d"]), st.sampled_from([None, "b", "s"]),
    BOTH, st.none() | st.just(1),
)  # fmt: skip
def test_rolling_reaches_over_partitions_within_its_group(
    given: Any, window: Any, by: Any, center: bool, least: Any
) -> None:
    table, x = given
    names = [*([by] if by else []), "t"]
    got = table_of(rolling(x, on="t", window=window, by=by, center=center, columns=aggs(**MOVING), min_periods=least))
    rows = [dict(zip(table.column_names, row, strict=True)) for row in in_order(table, names, [True] * len(names))]
    made = []
    for at, row in enumerate(rows):
        near = [(i, other) for i, other in enumerate(rows) if by is None or other[by] == row[by]]
        if isinstance(window, int):
            place = [i for i, _ in near].index(at)
            after = (window - 1) // 2 if center else 0
            some = [other for _, other in near][max(0, place + after + 1 - window) : place + after + 1]
        elif row["t"] is None:
            some = []
        else:
            span = {"1d": timedelta(1), "36h": timedelta(hours=36)}.get(window, timedelta(40000))
            ahead = span / 2 if center else timedelta(0)
            timed = [other for i, other in near if other["t"] is not None and (center or i <= at)]
            some = [r for r in timed if row["t"] + ahead - span < r["t"] <= row["t"] + ahead]
        made.append(moved(some, least or (window if isinstance(window, int) else 1)))
    for name in MOVING:
        found, wanted = got.column(name).to_pylist(), [one[name] for one in made]
        if name in ("m", "sd"):
            assert [v is None for v in found] == [v is None for v in wanted]
            assert [v for v in found if v is not None] == pytest.approx([v for v in wanted if v is not None], abs=1e-9)
        else:
            assert found == wanted, name


def test_infinite_and_huge_numbers_in_windows() -> None:
    inf = math.inf
    x = frame_of({"t": range(4), "v": [-inf, 1.5, inf, inf], "w": [1e308, 1e308, -1e308, -1e308]}, 2)
    columns = aggs(s="std(v, 0)", q="quantile(v, 0.9)", m="median(v)", w="median(w)")
    found = table_of(rolling(x, on="t", window=4, columns=columns, min_periods=1)).to_pydict()
    assert found["s"] == [None] * 4  # what gives NaN is missing
    assert found["q"] == [-inf, -inf, inf, inf]
    assert found["m"] == [-inf, -inf, 1.5, inf]
    assert found["w"] == [1e308, 1e308, 1e308, 0.0]


@pytest.mark.parametrize("n", [1, 3])
def test_sums_of_windows_are_exact(n: int) -> None:
    rows = {
        "t": range(4),
        "i": [2**62, 2**61, -(2**62), 5],
        "u": pa.array([2**63, 2**62, 1, 2], pa.uint64()),
        "d": pa.array([Decimal("99999999999999999999999999.99"), Decimal("0.01"), Decimal(-1), None]),
    }
    got = rolling(frame_of(rows, n), on="t", window=2, columns=aggs(i="sum(i)", u="sum(u)", d="sum(d)"), min_periods=1)
    assert [got.schema.field(name).type for name in "iud"] == [pa.int64(), pa.uint64(), pa.decimal128(38, 2)]
    found = table_of(got)
    assert found.column("i").to_pylist() == [2**62, 2**62 + 2**61, -(2**61), 5 - 2**62]
    assert found.column("u").to_pylist() == [2**63, 2**63 + 2**62, 2**62 + 1, 3]
    assert found.column("d").to_pylist() == [Decimal(10**26) - Decimal("0.01"), Decimal(10**26), Decimal("-0.99"), -1]


def test_a_sum_of_a_window_that_is_too_large_fails() -> None:
    x = frame_of({"t": range(2), "i": [2**63 - 1, 1]})
    with pytest.raises(DataError, match=r"columns\.i: sum of a window: it does not fit int64; sum number\(x\)"):
        table_of(rolling(x, on="t", window=2, columns=aggs(i="sum(i)")))


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("s"), pa.timestamp("ns", "Africa/Cairo")], ids=str)
def test_windows_of_time_take_times_of_every_unit(kind: pa.DataType) -> None:
    days = pa.array([0, 1, 2, 5], pa.int32()).cast(pa.date32()).cast(pa.timestamp("s")).cast(pa.timestamp("ns"))
    column = days.cast(kind) if not getattr(kind, "tz", None) else days.cast(pa.int64()).cast(kind)
    got = rolling(frame_of({"t": column, "i": [1, 2, 3, 4]}, 2), on="t", window="2d", columns=aggs(s="sum(i)"))
    assert table_of(got).column("s").to_pylist() == [1, 3, 5, 4]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"on": "s", "window": "1d"}, "window: got '1d', but 's' is string; a length of time needs times"),
        ({"on": "t", "window": "1x"}, "window: "),
        ({"on": "t", "window": 2, "min_periods": 3}, "min_periods: got 3, more than the 2 rows of the window"),
        ({"on": "t", "window": 2, "by": "t"}, "on: 't' is a column of by, too"),
        ({"on": "t", "window": 2, "columns": aggs(y="mean(s)")}, r"columns.y: mean\(x\) of a window needs numbers"),
        ({"on": "t", "window": 2, "columns": aggs(y="sum(zz)")}, "columns.y: column 5: 'zz' is no column"),
    ],
)
def test_a_fault_of_a_window_is_said_while_building(given: Any, message: str) -> None:
    x = frame_of({"t": pa.array([1], pa.timestamp("us")), "s": ["a"]})
    with pytest.raises(OpError, match=message):
        rolling(x, **{"columns": aggs(n="count()"), **given})


# ---------------------------------------------------------------------------------------------------------------------
# window
# ---------------------------------------------------------------------------------------------------------------------

COLUMNS = {
    "n": "row_number()", "r": "rank()", "dense": "dense_rank()", "before": "lag(s)", "two": "lead(l, 2)",
    "same": "lag(c, 0)", "total": "cumsum(i)", "floats": "cumsum(f)", "money": "cumsum(d)", "low": "cummin(c)",
    "late": "cummax(t)", "of": "f - mean(f)", "share": "i / sum(i)", "one": "first(i)", "end": "last(s)",
    "size": "count()", "mid": "median(f)", "step": "i - lag(i) > 0", "s": "upper(s)",
}  # fmt: skip


def windowed(rows: list[dict[str, Any]], by: list[str], order: list[str]) -> list[dict[str, Any]]:
    """The new columns of rows in order, by their definition."""
    made = []
    for at, row in enumerate(rows):
        group = [(i, other) for i, other in enumerate(rows) if [other[k] for k in by] == [row[k] for k in by]]
        all_of = [other for _, other in group]
        i = [j for j, _ in group].index(at)
        passed = all_of[: i + 1]
        peers = [[other[k] for k in order] for other in all_of]

        def there(name: str, some: list[dict[str, Any]]) -> list[Any]:
            return [other[name] for other in some if other[name] is not None]

        def lag(name: str, n: int, all_of: list[dict[str, Any]] = all_of, i: int = i) -> Any:
            return all_of[i - n][name] if 0 <= i - n < len(all_of) else None

        fs, total = there("f", all_of), sum(there("i", all_of))
        made.append({
            "n": i + 1, "r": peers.index(peers[i]) + 1, "before": lag("s", 1), "two": lag("l", -2), "same": row["c"],
            "dense": sum(peer not in peers[:j] for j, peer in enumerate(peers[: i + 1])),
            "total": sum(there("i", passed)), "floats": sum(there("f", passed), 0.0),
            "money": sum(there("d", passed), Decimal("0.00")),
            "low": min(there("c", passed), default=None), "late": max(there("t", passed), default=None),
            "of": None if row["f"] is None else row["f"] - sum(fs) / len(fs),
            "share": row["i"] / total if row["i"] is not None and total else None,
            "one": (there("i", all_of) or [None])[0], "end": (there("s", all_of) or [None])[-1], "size": len(all_of),
            "mid": statistics.median(there("f", all_of)) if there("f", all_of) else None,
            "step": row["i"] is not None and lag("i", 1) is not None and row["i"] - lag("i", 1) > 0,
            "s": None if row["s"] is None else row["s"].upper(),
        })  # fmt: skip
    return made


@SETTINGS
@given(
    with_frame(["k=b", "i=j", "f", "s=c", "d", "t", "c", "l"], largest=14), st.sampled_from([[], ["k"], ["k", "c"]]),
    st.sampled_from([["t"], ["i", "t"]]), st.tuples(BOTH, BOTH),
)  # fmt: skip
def test_a_window_sees_the_rows_of_its_group(given: Any, by: list[str], order: list[str], ups: Any) -> None:
    table, x = given
    ascending = list(ups[: len(order)])
    got = table_of(window(x, by=by, order=order, ascending=ascending, columns=cols(**COLUMNS)))
    ordered = in_order(table, [*by, *order], [*(True for _ in by), *ascending])
    rows = [dict(zip(table.column_names, row, strict=True)) for row in ordered]
    wanted = [row | new for row, new in zip(rows, windowed(rows, by, order), strict=True)]
    found = [dict(zip(got.column_names, row, strict=True)) for row in records(got)]

    def shown(some: list[dict[str, Any]]) -> list[str]:
        return sorted(
            repr([(n, round(v, 9) + 0.0 if isinstance(v, float) else v) for n, v in sorted(row.items())])
            for row in some
        )

    assert shown(found) == shown(wanted)


def test_zeros_of_both_signs_are_one_value() -> None:
    x = frame_of({"t": [1, 2, 3, 4], "f": [0.0, -0.0, 1.0, -0.0]}, 2)
    got = table_of(rolling(x, on="t", window=4, columns=aggs(n="nunique(f)", low="min(f)"), min_periods=1))
    assert got.column("n").to_pylist() == [1, 1, 2, 2]
    assert [str(low) for low in got.column("low").to_pylist()] == ["0.0"] * 4
    assert table_of(window(x, columns=cols(n="nunique(f)"))).column("n").to_pylist() == [2] * 4


@pytest.mark.parametrize("n", [1, 2, 4])
def test_windows_of_time_reach_beyond_the_first_and_the_last_moment(n: int) -> None:
    ends = [-(2**63) + 1, -(2**63) + 2, 2**63 - 3, 2**63 - 2]
    x = frame_of({"t": pa.array(ends).cast(pa.timestamp("ns"))}, n)

    def counts(window: str, center: bool) -> list[int]:
        return table_of(rolling(x, on="t", window=window, center=center, columns=aggs(n="count()")))["n"].to_pylist()

    assert counts("1d", False) == [1, 2, 1, 2]
    assert counts("1d", True) == [2, 2, 2, 2]
    assert counts("200000d", False) == [1, 2, 1, 2]
    assert counts("500000d", True) == [4, 4, 4, 4]
    with pytest.raises(OpError, match="window: got '9000000d'"):
        counts("9000000d", False)


def test_running_sums_are_exact_and_fail_beyond_their_type() -> None:
    rows = {"t": [1, 2, 3], "i": [2**62, 2**61, -5], "u": pa.array([2**63, 2**62, 1], pa.uint64())}
    got = table_of(window(frame_of(rows, 2), order="t", columns=cols(i="cumsum(i)", u="cumsum(u)")))
    assert got.column("i").to_pylist() == [2**62, 2**62 + 2**61, 2**62 + 2**61 - 5]
    assert got.column("u").to_pylist() == [2**63, 2**63 + 2**62, 2**63 + 2**62 + 1]
    x = frame_of({"t": [1, 2], "i": [2**63 - 1, 1]})
    for text, said in {
        "cumsum(i)": r"columns\.y: a running sum does not fit int64",
        "sum(i) + 1": r"columns\.y: sum\(i\) is 9223372036854775808, which int64 can't hold; write sum\(number\(i\)\)",
    }.items():
        with pytest.raises(DataError, match=said):
            table_of(window(x, order="t", columns=cols(y=text)))
    assert table_of(window(x, columns=cols(y="sum(number(i))"))).column("y").to_pylist() == [2.0**63, 2.0**63]


def test_no_columns_of_groups_are_one_group() -> None:
    x = frame_of({"t": [3, 1, 2]}, 2)
    for by in (None, []):
        assert table_of(window(x, by=by, columns=cols(n="count()"))).column("n").to_pylist() == [3, 3, 3]


def test_running_sums_of_floats_have_the_same_bits_however_rows_are_cut() -> None:
    rng = np.random.default_rng(0)
    rows = {"k": rng.integers(0, 5, 3000), "t": rng.permutation(3000), "f": rng.normal(size=3000) * 1e9}
    found = []
    for n in (1, 3, 8):
        got = table_of(window(frame_of(rows, n), by="k", order="t", columns=cols(y="cumsum(f)")))
        found.append(sorted(zip(got.column("t").to_pylist(), got.column("y").to_pylist(), strict=True)))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"columns": cols(y="rank()")}, r"order: is missing; rank\(\) needs an order of the rows"),
        ({"columns": cols(y="rank()"), "order": "t DESC"}, "order: 't DESC' .*; write order: t and ascending: false"),
        ({"columns": cols(y="first(s)")}, r"order: is missing; first\(s\) needs an order"),
        ({"columns": cols(y="cumsum(s)"), "order": "t"}, r"columns.y: cumsum\(x\) has no meaning for string"),
        ({"columns": cols(y="1 + sum(s)"), "order": "t"}, r"columns.y: sum\(x\) has no meaning for string"),
        ({"columns": cols(y="lag(s, -1)"), "order": "t"}, r"columns.y: n of lag\(x, n\) is a number of rows"),
        ({"columns": cols(y="lag(zz)"), "order": "t"}, "columns.y: column 5: 'zz' is no column"),
        ({"columns": cols(y="count()"), "by": "t", "order": "t"}, "order: 't' is a column of by, too"),
        ({"columns": cols(y="rank()"), "order": "t", "ascending": [True, False]}, "ascending: got 2 directions"),
    ],
)
def test_a_fault_of_a_column_is_said_while_building(given: Any, message: str) -> None:
    with pytest.raises(OpError, match=message):
        window(frame_of({"t": [1], "s": ["a"]}), **given)
