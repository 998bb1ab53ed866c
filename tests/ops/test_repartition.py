"""Partitions: how many there are, and how long each one is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import frame_of, partitions_of, table_of
from strategies import SETTINGS
from tables import records, with_frame

from pipeline.errors import DataError, OpError
from pipeline.ops.frames.repartition import repartition


@SETTINGS
@given(with_frame(["i", "c", "z", "l"]), st.integers(1, 5))
def test_repartition_keeps_rows_and_order(given: Any, n: int) -> None:
    table, x = given
    for count in (False, True, table.num_rows):
        got = repartition(x, npartitions=n, count_rows=count)
        assert len(got.keys) == n
        assert records(table_of(got)) == records(table)
    sizes = [part.num_rows for part in partitions_of(got)]
    assert got.lengths == tuple(sizes)
    size = max(1, -(-table.num_rows // n))
    assert all(m == size or sum(sizes[: i + 1]) == table.num_rows for i, m in enumerate(sizes))


def test_rows_are_dealt_in_order_over_many_partitions() -> None:
    got = repartition(frame_of({"v": np.arange(1000)}, 45), npartitions=33, count_rows=True)
    assert any("spread" in str(key[0]) for key in got.tasks)
    assert table_of(got).column("v").to_pylist() == list(range(1000))


def test_a_number_of_rows_that_is_not_there_is_said() -> None:
    with pytest.raises(DataError, match="count_rows: got 3 rows; 5 are declared"):
        table_of(repartition(frame_of({"v": [1, 2, 3]}, 2), count_rows=5))
    with pytest.raises(OpError, match="npartitions: is missing"):
        repartition(frame_of({"v": [1]}))
