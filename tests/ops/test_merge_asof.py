"""As-of joins against their definition, row by row."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import frame_of, table_of
from strategies import SETTINGS
from tables import cut_at, in_order, records

from pipeline.errors import OpError
from pipeline.ops.frames import pairing
from pipeline.ops.frames.merge_asof import merge_asof

KINDS = [pa.int64(), pa.float64(), pa.timestamp("us"), pa.timestamp("ns", "Africa/Cairo"), pa.date32(),
         pa.duration("s"), pa.decimal128(6, 1)]  # fmt: skip


def near(
    left: list[dict[str, Any]], right: list[tuple[Any, ...]], by: bool, direction: str, farthest: int | None
) -> list[tuple[Any, ...]]:
    """Each left row with its right one; ``right`` in order of key, near column, rest."""
    unique: dict[Any, Any] = {}
    for k, v, z in right:
        unique.setdefault((k, v) if by else v, (k, v, z))
    rows = []
    for row in left:
        some = [r for r in unique.values() if r[1] is not None and row["v"] is not None]
        some = [r for r in some if not by or (r[0] == row["k"] and r[0] is not None)]
        before = max((r for r in some if r[1] <= row["v"]), key=lambda r: r[1], default=None)
        after = min((r for r in some if r[1] >= row["v"]), key=lambda r: r[1], default=None)
        found = {"backward": before, "forward": after}.get(direction)
        if direction == "nearest":
            found = before or after
            if before and after and after[1] - row["v"] < row["v"] - before[1]:
                found = after
        if found and farthest is not None and abs(found[1] - row["v"]) > farthest:
            found = None
        rows.append((row["a"], found[2] if found else None))
    return rows


@pytest.mark.parametrize("plan", ["whole", "dealt"])
@SETTINGS
@given(st.sampled_from(KINDS), st.data())
def test_each_row_meets_the_nearest(plan: str, kind: pa.DataType, data: Any) -> None:
    def column(values: list[int | None]) -> pa.Array:
        if pa.types.is_decimal(kind):
            return pa.array([None if v is None else Decimal(v) for v in values], kind)
        whole = pa.array(values, pa.int32() if pa.types.is_date(kind) else pa.int64())
        return whole.cast(kind)

    values = st.none() | st.integers(-6, 6)
    lefts, rights = (
        data.draw(st.lists(st.tuples(st.sampled_from(["x", "y", None]), values), max_size=8)) for _ in "lr"
    )
    by, direction = data.draw(st.booleans()), data.draw(st.sampled_from(["backward", "forward", "nearest"]))
    farthest = data.draw(st.none() | st.integers(0, 3))
    keys, ticks = [k for k, _ in lefts], [v for _, v in lefts]
    left = pa.table({"k": pa.array(keys, pa.string()), "v": column(ticks), "a": pa.array(range(len(lefts)))})
    rest = data.draw(st.lists(st.integers(0, 9), min_size=len(rights), max_size=len(rights)))
    whole = [pa.array([v for _, v in rights], pa.int64()), pa.array(rest, pa.int64())]
    plain = pa.table([pa.array([k for k, _ in rights], pa.string()), *whole], names=["k", "v", "z"])
    right = plain.set_column(1, "v", column([v for _, v in rights]))
    unit = {"us": "{}us", "ns": "{}us", "s": "{}s"}.get(getattr(kind, "unit", ""), "{}d")
    if pa.types.is_timestamp(kind) and kind.unit == "ns" and farthest:
        farthest = 1000  # a microsecond: all that there is
        tolerance: Any = "1us"
    else:
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        tolerance = None if farthest is None else farthest if number else unit.format(farthest)
    with pytest.MonkeyPatch.context() as patch:
        if plan == "dealt":
            patch.setattr(pairing, "SMALL", -1)
        got = merge_asof(
            cut_at(left, [2, 5]), cut_at(right.rename_columns(["k", "v", "z"] if by else ["q", "v", "z"]), [3]),
            on="v", by="k" if by else None, direction=direction, tolerance=tolerance,
        )  # fmt: skip
        rows = table_of(got)
    order = in_order(plain, ["k", "v"], [True, True]) if by else in_order(plain, ["v", "k", "z"], [True] * 3)
    wanted = near([{"k": k, "v": v, "a": i} for i, (k, v) in enumerate(lefts)], order, by, direction, farthest)
    assert sorted(records(rows.select(["a", "z"])), key=lambda r: r[0]) == wanted


def test_columns_are_named_as_a_merge_names_them() -> None:
    left = frame_of({"t": [1, 5], "k": ["x", "y"], "v": [1, 2]})
    right = frame_of({"u": [1, 2], "k": ["x", "x"], "v": [3, 4]}, name="right")
    got = merge_asof(left, right, left_on="t", right_on="u", by="k")
    assert got.columns == ["t", "k", "v_x", "u", "v_y"]
    assert records(table_of(got)) == [(1, "x", 1, 1, 3), (5, "y", 2, None, None)]
    assert got.schema.field("v_y").nullable


def test_whole_numbers_of_any_size_are_near() -> None:
    left = frame_of({"t": pa.array([2**64 - 1, 2**63], pa.uint64())})
    right = frame_of({"t": pa.array([-(2**63), 2**63 - 1]), "z": [1, 2]}, name="right")
    for tolerance, found in ((None, [2, 2]), (1, [None, 2])):
        got = table_of(merge_asof(left, right, on="t", tolerance=tolerance))
        assert got.column("z").to_pylist() == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "on: give `on`, or `left_on` and `right_on`"),
        ({"on": "s"}, "on: 's' is string, which has no distances; use numbers or times"),
        ({"on": "t", "by": "t"}, "on: 't' is a column of by, too"),
        ({"on": "t", "tolerance": 3}, "tolerance: got 3; between times it is a duration: 10min"),
        ({"on": "t", "tolerance": "3"}, "tolerance: "),
        ({"on": "i", "tolerance": "3d"}, "tolerance: got '3d'; between numbers it is a number, at least 0"),
        ({"left_on": "i", "right_on": "t"}, "right_on: the keys 'i' of the left .* never compare equal"),
        ({"on": "z"}, "on: 'z' is no column of the input"),
    ],
)
def test_a_fault_of_an_as_of_join_is_said_while_building(given: Any, message: str) -> None:
    x = frame_of({"t": pa.array([datetime(2001, 1, 1) + timedelta(1)]), "s": ["a"], "i": [1]})
    with pytest.raises(OpError, match=message):
        merge_asof(x, x, **given)


@pytest.mark.parametrize("direction", ["backward", "forward", "nearest"])
def test_infinity_is_at_no_distance_from_itself(direction: Any) -> None:
    inf = float("inf")
    left = frame_of({"v": [-inf, 1.0, inf]})
    right = frame_of({"v": [-inf, inf], "z": [1, 2]}, 1, "right")
    got = table_of(merge_asof(left, right, on="v", direction=direction, tolerance=0.5))
    assert got.column("z").to_pylist() == [1, None, 2]
