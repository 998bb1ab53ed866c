"""What a value takes: exact for arrays, frames and texts; of what is nested a sample, which costs little."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from dask.sizeof import sizeof

from pipeline.worker.memory import nbytes, resident, without_rest


class Counted:
    """Something whose size is asked for, and counted."""

    asked = 0

    @property
    def nbytes(self) -> int:
        Counted.asked += 1
        return 100


def nested(depth: int, width: int, leaf: Any) -> Any:
    return [nested(depth - 1, width, leaf)] * width if depth else leaf


@pytest.mark.parametrize(
    ("value", "exact"),
    [
        (np.zeros((3, 5)), 120),
        (7, sys.getsizeof(7)),
        (bytes(1000), sys.getsizeof(bytes(1000))),
        ({"a": np.zeros(1000), "b": np.zeros(10)}, 8080),
        ([np.zeros(10**i) for i in range(6)], 8 * 111_111),
    ],
)
def test_an_array_and_what_holds_a_few_of_them_is_exact(value: Any, exact: int) -> None:
    assert exact <= nbytes(value) <= exact + 1000


def test_a_frame_is_as_dask_has_it() -> None:
    frame = pd.DataFrame({"a": range(100), "b": ["x"] * 100})
    assert nbytes(frame) == sizeof(frame)


def test_a_slice_of_a_table_goes_without_the_rest_of_it() -> None:
    whole = pa.table({"a": np.arange(100_000), "b": pa.array(["text"] * 100_000).dictionary_encode()})
    cut = whole.slice(500, 3)
    assert nbytes(cut) < 1000
    assert len(pickle.dumps(cut, 5)) > 800_000
    alone = without_rest(cut)
    assert alone.equals(cut)
    assert len(pickle.dumps(alone, 5)) < 5000
    assert without_rest(whole) is whole
    assert without_rest(7) == 7


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 12])
def test_few_objects_are_sampled_of_a_deep_or_long_value(depth: int) -> None:
    Counted.asked = 0
    nbytes(nested(depth, 50, Counted()))
    assert Counted.asked <= 8 * 3 * 2
    assert (Counted.asked > 0) == (depth <= 5)


@pytest.mark.parametrize("form", [list, tuple, set, frozenset])
def test_what_is_all_alike_is_exact_however_long(form: Any) -> None:
    value = form(np.arange(1000, 9000).tolist())
    assert nbytes(value) == sys.getsizeof(value) + 8000 * sys.getsizeof(1000)


def test_rows_are_estimated_from_some_that_lie_all_over() -> None:
    rows = [{"name": "x" * (10 * i), "n": 1000 + i} for i in range(1000)]  # later ones are longer
    true = sizeof([]) + sum(sum(map(sys.getsizeof, row.values())) + sys.getsizeof(row) for row in rows)
    assert 0.7 < nbytes(rows) / true < 1.3


def test_a_value_that_holds_itself_has_a_size() -> None:
    value: list[Any] = [1]
    value.append(value)
    assert nbytes(value) > sys.getsizeof(value)


@pytest.mark.parametrize("value", [[], {}, set(), ()])
def test_what_is_empty_takes_what_it_takes_itself(value: Any) -> None:
    assert nbytes(value) == sys.getsizeof(value)


def test_what_breaks_when_asked_has_none() -> None:
    class Broken(list[int]):
        def __len__(self) -> int:
            raise RuntimeError

    assert nbytes(Broken([1])) == 0


def test_the_resident_size_is_looked_at_again_after_20_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.worker.memory._resident_seen", (10**9, 5))
    assert resident(10**9 + 20_000_000) == 5
    assert resident(10**9 + 20_000_001) > 5
