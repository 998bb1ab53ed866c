"""``pipeline.batches``: every row once, in an order that is known, whatever the workers; errors and ``break``."""

from __future__ import annotations

import subprocess
import sys
import threading
import types
from copy import copy
from itertools import islice
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import blocks

import pipeline
from pipeline.errors import ConfigError, DataError, TaskError

PAGE = Path(__file__).parents[2] / "docs" / "batches.md"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def frame(here: Path) -> pd.DataFrame:
    """30 rows in row groups of 7."""
    frame = pd.DataFrame({"a": range(30), "t": [str(i) for i in range(30)]})
    frame.to_parquet("f.parquet", row_group_size=7)
    return frame


def read(*args: Any, **options: Any) -> list[Any]:
    return list(pipeline.batches(*args, **{"workers": 0, **options}))


@pytest.mark.parametrize("name", ["f.parquet", "f.csv", "f.csv.gz", "f.jsonl", "folder"])
def test_rows_of_frames_come_in_order(here: Path, name: str) -> None:
    frame = pd.DataFrame({"a": range(10), "t": [f"x{i}" for i in range(10)]})
    if name == "f.jsonl":
        frame.to_json(name, orient="records", lines=True)
    elif ".csv" in name:
        frame.to_csv(name, index=False)
    else:
        (here / "folder").mkdir()
        frame.to_parquet(name if name == "f.parquet" else "folder/part.parquet")
    found = read(name, 4)
    assert [len(batch) for batch in found] == [4, 4, 2]
    assert all(list(batch.index) == list(range(len(batch))) for batch in found)
    assert pd.concat(found)["a"].tolist() == list(range(10))
    assert pd.concat(found)["t"].tolist() == frame["t"].tolist()


@pytest.mark.parametrize("name", ["x.npy", "x.zarr", "x.nc"])
def test_rows_of_arrays_come_in_order(here: Path, name: str) -> None:
    values = np.arange(30.0).reshape(10, 3)
    array = xr.DataArray(values, dims=("row", "x"), name="v")
    if name == "x.npy":
        np.save(name, values)
    elif name == "x.zarr":
        array.chunk({"row": 4, "x": 2}).to_dataset().to_zarr(name, consolidated=False)
    else:
        array.to_netcdf(name)
    found = pipeline.batches(name, 4, workers=0)
    assert len(found) == 3
    np.testing.assert_array_equal(np.concatenate(list(found)), values)


any_batches = given(
    n_rows=st.integers(0, 40),
    chunk=st.integers(1, 12),
    size=st.integers(1, 15),
    buffer=st.integers(1, 4),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
)


@settings(deadline=None, max_examples=50)
@any_batches
def test_each_row_of_a_frame_comes_once(
    tmp_path_factory: Any, n_rows: int, chunk: int, size: int, buffer: int, shuffle: bool, drop_last: bool
) -> None:
    path = tmp_path_factory.mktemp("rows") / "f.parquet"
    frame = pd.DataFrame({"x": [str(i) for i in range(n_rows)], "y": np.arange(n_rows)})
    frame.to_parquet(path, row_group_size=chunk)
    options = {"split": "row_groups", "buffer": buffer, "shuffle": shuffle, "drop_last": drop_last, "workers": 0}
    batches = list(pipeline.batches(path, size, **options))
    assert all(len(batch) == size for batch in batches[: None if drop_last else -1])
    assert all(list(batch.index) == list(range(len(batch))) for batch in batches)
    rows = [row for batch in batches for row in batch["y"].tolist()]
    assert len(set(rows)) == len(rows) == (n_rows // size * size if drop_last else n_rows)
    assert shuffle or rows == list(range(len(rows)))
    assert all(batch["x"].tolist() == [str(y) for y in batch["y"]] for batch in batches)


@settings(deadline=None, max_examples=50)
@any_batches
def test_each_row_comes_once(
    tmp_path_factory: Any, n_rows: int, chunk: int, size: int, buffer: int, shuffle: bool, drop_last: bool
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    np.save(folder / "x.npy", np.arange(n_rows * 2).reshape(n_rows, 2))
    np.save(folder / "y.npy", np.arange(n_rows))
    source = {name: folder / f"{name}.npy" for name in ("x", "y")}
    options = {"chunks": {"dim_0": chunk}, "buffer": buffer, "shuffle": shuffle, "drop_last": drop_last, "workers": 0}
    found = pipeline.batches(source, size, **options)
    batches = list(found)
    assert len(batches) == len(found)
    assert all(len(batch["y"]) == size for batch in batches[: None if drop_last else -1])
    rows = [row for batch in batches for row in batch["y"].tolist()]
    assert len(set(rows)) == len(rows) == (n_rows // size * size if drop_last else n_rows)
    assert shuffle or rows == list(range(len(rows)))
    assert all((batch["x"][:, 0] == 2 * batch["y"]).all() for batch in batches)


def test_an_order_belongs_to_a_seed_and_an_epoch(frame: pd.DataFrame) -> None:
    def orders(**options: Any) -> list[list[int]]:
        found = pipeline.batches("f.parquet", 4, split="row_groups", shuffle=True, workers=0, **options)
        return [[row for batch in found for row in batch["a"]] for _ in range(2)]

    first, second = orders()
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second
    assert orders() == [first, second]
    assert orders(seed=1)[0] != first
    again = pipeline.batches("f.parquet", 4, split="row_groups", shuffle=True, workers=0)
    again.epoch = 1
    assert [row for batch in again for row in batch["a"]] == second


def test_a_buffer_bounds_how_far_rows_move(frame: pd.DataFrame) -> None:
    rows = [row for b in read("f.parquet", 7, split="row_groups", shuffle=True, buffer=1) for row in b["a"]]
    blocks = [sorted(rows[start : start + 7]) for start in (0, 7, 14, 21)]
    full = [block for block in blocks if block[0] % 7 == 0 and block[-1] - block[0] == 6]
    assert len(full) >= 1  # the block of two rows stands among the others
    assert rows != sorted(rows)


def test_workers_give_the_same_batches_and_end_on_break(frame: pd.DataFrame) -> None:
    options = {"split": "row_groups", "shuffle": True, "buffer": 2}
    alone = [batch["a"].tolist() for batch in read("f.parquet", 4, **options)]
    found = pipeline.batches("f.parquet", 4, workers=2, **options)
    with found:
        assert [batch["a"].tolist() for batch in found] == alone
        workers = active_children()
        for _ in found:
            break
        assert [batch["a"].tolist() for batch in found] != alone
        assert workers
    assert not active_children()
    for _ in pipeline.batches("f.parquet", 4, workers=2, split="row_groups"):
        break
    assert not active_children()
    assert "pipeline-batches" not in {thread.name for thread in threading.enumerate()}


def test_a_killed_worker_is_replaced(frame: pd.DataFrame) -> None:
    rows: list[int] = []
    for batch in pipeline.batches("f.parquet", 2, workers=1, prefetch=1, split="row_groups"):
        if not rows:
            (worker,) = active_children()
            worker.kill()
        rows += batch["a"].tolist()
    assert rows == list(range(30))


def test_steps_on_each_partition_are_computed_too(frame: pd.DataFrame) -> None:
    text = "version: 1\nsteps:\n  rows: {op: read_parquet, path: f.parquet, split: row_groups}\n"
    made = pipeline.load(text + '  kept: {op: filter, input: rows, where: "a >= 10"}\n')
    found = read(made, 8, step="kept")
    assert [len(batch) for batch in found] == [8, 8, 4]
    assert [row for batch in found for row in batch["a"]] == list(range(10, 30))
    with pytest.raises(TypeError, match="number of batches is unknown"):
        len(pipeline.batches(made, 8, step="kept"))


def test_an_output_of_a_run_is_read(here: Path) -> None:
    text = "version: 1\nsteps: {x: {op: arange, stop: 10, chunks: 4, dim: row}}\n"
    run = pipeline.load(text + "outputs: {x: {to: zarr, path: x.zarr}}\n").run(backend="serial")
    assert np.concatenate(read(run, 3)).tolist() == list(range(10))
    assert np.concatenate(read(run, 3, output="x")).tolist() == list(range(10))
    with pytest.raises(ConfigError, match="output: got 'y'; outputs: x"):
        read(run, 3, output="y")


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("no.parquet", {}, "no.parquet: no such file"),
        ("x.unknown", {}, "its ending is none of .parquet"),
        (3, {}, "got 3; a source is"),
        ([], {}, "a source is"),
        ("f.parquet", {"colums": ["a"]}, "colums"),
        ("f.parquet", {"batch_size": 0}, "batch_size: got 0; allowed: whole numbers from 1 on"),
        ("f.parquet", {"workers": -1}, "workers: got -1"),
        ("f.parquet", {"prefetch": 0}, "prefetch: got 0"),
        ({"x": "x.npy", "f": "f.parquet"}, {}, "'f' is a frame; a map of sources has arrays alone"),
        ({"x": "x.npy", "y": "y.npy"}, {}, "same rows, in the same chunks; x: 6 rows in 1 chunk, y: 5 rows in 1 chunk"),
        ("one.npy", {}, "one number, which has no rows"),
        ("x.npy", {"chunks": {"dim_1": 1}}, "make them whole: op: rechunk, chunks: {dim_1: 2}"),
    ],
)
def test_what_can_not_be_read_is_refused(frame: Any, source: Any, options: dict[str, Any], said: str) -> None:
    np.save("x.npy", np.zeros((6, 2)))
    np.save("y.npy", np.zeros((5, 2)))
    np.save("one.npy", np.float64(3))
    with pytest.raises((ConfigError, DataError)) as caught:
        read(source, options.pop("batch_size", 4), **options)
    assert said in str(caught.value)


def test_a_step_that_needs_other_blocks_is_refused(frame: pd.DataFrame) -> None:
    text = "version: 1\nsteps:\n  rows: {op: read_parquet, path: f.parquet, split: row_groups}\n"
    made = pipeline.load(text + "  ordered: {op: sort_values, input: rows, by: a}\n")
    with pytest.raises(ConfigError, match="write the step as an output, and read that"):
        read(made, 4, step="ordered")
    with pytest.raises(ConfigError, match="steps: rows, ordered; did you mean 'rows'"):
        read(made, 4, step="row")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_where_the_loop_gets_to_it(frame: pd.DataFrame, here: Path, workers: int) -> None:
    frame.iloc[:7].to_parquet("a.parquet")
    (here / "b.parquet").write_bytes((here / "f.parquet").read_bytes())
    found = pipeline.batches(["a.parquet", "b.parquet"], 7, workers=workers)
    with open("b.parquet", "r+b") as file:
        file.write(b"\xff" * 300)
    seen: list[Any] = []
    with pytest.raises((TaskError, DataError), match=r"b\.parquet"):
        seen += (batch["a"].tolist() for batch in found)
    assert seen == [list(range(7))]
    assert not active_children()


def test_the_page_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"age": 30, "income": range(600), "label": 1, "name": "x"}).to_parquet("train.parquet")
    np.save("images.npy", np.zeros((130, 4, 4)))
    np.save("labels.npy", np.arange(130))
    first, second = (block for block in blocks(PAGE) if block.language == "python")
    exec(compile(first.text, PAGE, "exec"), {"__name__": "__main__"})
    means = list(map(float, capsys.readouterr().out.split()))
    assert len(means) == 3
    assert 256 * (means[0] + means[1]) + 88 * means[2] == pytest.approx(sum(range(600)))
    exec(compile(second.text, PAGE, "exec"), {"__name__": "__main__"})
    assert not active_children()


def test_without_torch_it_says_so(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.data", None)
    with pytest.raises(ConfigError, match="pip install torch"):
        pipeline.batches("f.parquet", 4, workers=0).torch()


@pytest.fixture
def torch_data(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The protocol of ``IterableDataset`` with a stand-in for torch, which need not be installed."""
    data: Any = types.ModuleType("torch.utils.data")
    data.IterableDataset, data.get_worker_info = object, lambda: None
    torch: Any = types.ModuleType("torch")
    torch.from_numpy = lambda values: ("tensor", values.tolist())
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch.utils.data", data)
    return data


def worker_info(number: int, n: int, seed: int) -> Any:
    return lambda: types.SimpleNamespace(id=number, num_workers=n, seed=seed + number)


def test_workers_of_a_dataloader_share_the_blocks(frame: pd.DataFrame, torch_data: Any) -> None:
    dataset = pipeline.batches("f.parquet", 30, split="row_groups", workers=0).torch()
    assert next(iter(dataset)) == {"a": ("tensor", list(range(30))), "t": [str(i) for i in range(30)]}
    rows = []
    for worker in (0, 1):
        torch_data.get_worker_info = worker_info(worker, 2, seed=5)
        rows += [row for batch in dataset for row in batch["a"][1]]
    assert sorted(rows) == list(range(30))


def epoch_of_two(dataset: Any, torch_data: Any, seed: int, *, copied: bool) -> list[int]:
    """The rows that two workers read in one epoch; each has a copy of the dataset, or goes on with the one it has."""
    rows = []
    for worker in (0, 1):
        torch_data.get_worker_info = worker_info(worker, 2, seed)
        rows += [row for batch in (copy(dataset) if copied else dataset[worker]) for row in batch["a"][1]]
    return rows


def test_each_epoch_of_a_dataloader_has_another_order(frame: pd.DataFrame, torch_data: Any) -> None:
    train = pipeline.batches("f.parquet", 4, split="row_groups", workers=0, shuffle=True)
    expected = [[row for batch in train for row in batch["a"].tolist()] for _ in range(4)]
    assert train.epoch == 4
    train.epoch = 0
    dataset = train.torch()
    found = [epoch_of_two(dataset, torch_data, seed, copied=True) for seed in (11, 22)]
    assert train.epoch == 2
    lasting = {worker: copy(dataset) for worker in (0, 1)}  # persistent_workers: the seed stays as well
    found += [epoch_of_two(lasting, torch_data, 33, copied=False) for _ in range(2)]
    assert train.epoch == 4
    assert [sorted(rows) for rows in found] == [list(range(30))] * 4
    assert len({tuple(rows) for rows in found}) == 4
    train.epoch = 1
    assert epoch_of_two(dataset, torch_data, 44, copied=True) == found[1]
    torch_data.get_worker_info = lambda: None
    train.epoch = 2
    assert [row for batch in dataset for row in batch["a"][1]] == expected[2]


def test_missing_numbers_are_no_tensors(here: Path, torch_data: Any) -> None:
    """The type of a tensor never depends on whether a batch has missing values."""
    numbers = {"n": [2**53 + 1, 7, None], "f": [0.5, None, 1.5], "b": [True, False, None]}
    pq.write_table(pa.table(numbers), "m.parquet", row_group_size=2)
    batches = iter(pipeline.batches("m.parquet", 2, split="row_groups", workers=0).torch())
    first = next(batches)
    assert first["n"] == ("tensor", [2**53 + 1, 7])
    assert first["b"] == ("tensor", [True, False])
    assert first["f"][1][0] == 0.5
    assert np.isnan(first["f"][1][1])
    with pytest.raises(DataError, match=r"column 'n': has missing values.*op fillna"):
        next(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_loops_beside_each_other_have_workers_each(frame: pd.DataFrame, workers: int) -> None:
    with pipeline.batches("f.parquet", 4, split="row_groups", workers=workers) as several:
        for _ in range(2):
            for one, other in zip(several, several, strict=True):
                assert one.equals(other)
        pairs = [(x["a"].iloc[0], y["a"].iloc[0]) for x in several for y in islice(several, 2)]
        assert pairs == [(x, y) for x in range(0, 30, 4) for y in (0, 4)]
        with pytest.raises(ConfigError, match="in a with block already"), several:
            pass
        left = iter(several)
        next(left)
    with pytest.raises(ConfigError, match="with block in which this loop over batches began has ended"):
        next(left)
    assert not active_children()


def test_an_iterator_that_is_left_open_ends_with_the_program(frame: pd.DataFrame, here: Path) -> None:
    Path("left.py").write_text(
        "import pipeline\n"
        "class Trainer:\n"
        "    def __init__(self):\n"
        "        self.step = self.learn  # a cycle\n"
        "        self.rows = iter(pipeline.batches('f.parquet', 4, split='row_groups'))\n"
        "        next(self.rows)\n"
        "    def learn(self): pass\n"
        "if __name__ == '__main__':\n"
        "    trainer = Trainer()\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, "left.py"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
