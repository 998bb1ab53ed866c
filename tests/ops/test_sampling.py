"""Some of the rows: by their numbers in the frame, whatever the partitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from serially import frame_of, table_of

from pipeline.ops.frames.sampling import head, sample


@pytest.mark.parametrize("n", [0, 1, 3, 10, 11, 50])
@pytest.mark.parametrize("partitions", [1, 4, 20])
def test_the_head_is_the_first_rows(n: int, partitions: int) -> None:
    got = head(frame_of({"v": range(10)}, partitions), n=n)
    assert len(got.keys) == 1
    assert table_of(got).column("v").to_pylist() == list(range(min(n, 10)))


def test_the_head_reads_no_more_partitions_than_it_needs() -> None:
    x = replace(frame_of({"v": range(10)}, 5), lengths=(2, 2, 2, 2, 2))
    got = head(x, n=3)
    assert sum(str(key[0]).startswith("head") for key in got.tasks) == 3
    assert got.lengths == (3,)


@pytest.mark.parametrize("how", [{"fraction": 0.3}, {"n": 37}, {"n": 0}, {"n": 500}, {"fraction": 1}, {"fraction": 0}])
def test_a_sample_does_not_depend_on_the_partitions(how: dict[str, float]) -> None:
    found = [
        table_of(sample(frame_of({"v": range(200)}, n), seed=7, **how)).column("v").to_pylist()  # type: ignore[arg-type]
        for n in (1, 3, 11)
    ]
    known = sample(replace(frame_of({"v": range(200)}, 2), lengths=(100, 100)), seed=7, **how)  # type: ignore[arg-type]
    assert found[0] == found[1] == found[2] == table_of(known).column("v").to_pylist()
    assert found[0] == sorted(set(found[0]))
    if "n" in how:
        assert len(found[0]) == min(how["n"], 200)


def test_each_row_is_as_likely_as_the_others() -> None:
    x = frame_of({"v": range(50)})
    counts = np.zeros(50)
    for seed in range(300):
        counts[table_of(sample(x, n=10, seed=seed)).column("v").to_numpy()] += 1
    assert counts.sum() == 3000
    assert 25 < counts.min() <= counts.max() < 100  # 60 on average, 7 as deviation
    share = table_of(sample(frame_of({"v": range(100_000)}), fraction=0.25, seed=1)).num_rows
    assert 24_400 < share < 25_600
