"""``pipeline.batches`` compared with torch's ``DataLoader``: same rows, batch size, workers and transform."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

import pipeline
from bench.pairs import Aim, Row, Sizes, Skipped, ratios, take_turns

__all__ = ["loading"]

_BATCH = 256
_WIDTH = 64
_EPOCHS = 3
_FILES = 4
_NAMES = [f"x{i}" for i in range(_WIDTH)]

try:
    data: Any = importlib.import_module("torch.utils.data")
    torch: Any = importlib.import_module("torch")
except ModuleNotFoundError:
    data = torch = None


def loading(sizes: Sizes) -> Iterator[Row]:
    """Time epochs with warm workers on both sides; what is compared is the sum of all batches."""
    if torch is None:
        raise Skipped("needs torch: pip install pipeline[bench]")
    n = sizes.n_rows // 4
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x = np.random.default_rng(1).normal(size=(n, _WIDTH)).astype(np.float32)
        np.save(folder / "x.npy", x)
        for i in range(_FILES):
            part = x[i * n // _FILES : (i + 1) * n // _FILES]
            pd.DataFrame(part, columns=_NAMES).to_parquet(folder / f"x{i}.parquet", row_group_size=max(1, n // 16))
        (folder / "rows.yaml").write_text(_FILE, encoding="utf-8")
        for case, step, theirs in (
            ("npy, row by row", "npy", _loader(Rows(folder / "x.npy"), sizes, batch_size=_BATCH)),
            ("npy, block by block", "npy", _loader(Blocks(folder / "x.npy", n), sizes, batch_size=None)),
            ("Parquet as frames", "frames", _loader(Groups(folder), sizes, batch_size=None)),
            ("Parquet as arrays", "arrays", _loader(Groups(folder), sizes, batch_size=None)),
        ):
            config = pipeline.load(folder / "rows.yaml")
            with pipeline.batches(config, _BATCH, step=step, workers=sizes.n_workers) as ours:
                contenders = {"ours": _epochs(_tensors(ours)), "theirs": _epochs(theirs)}
                taken = take_turns(contenders, sizes.pairs, warm_up=sizes.warm_up)
            yield ratios(case, taken["ours"], taken["theirs"], Aim(1.0, by="low"))


_FILE = f"""
version: 1
steps:
  x: {{op: from_npy, path: x.npy, dims: [row, col], chunks: {{row: {64 * _BATCH}}}}}
  npy: {{expr: "(x - 0.5) / 2"}}
  f: {{op: read_parquet, path: "x*.parquet", split: row_groups}}
  a: {{op: to_array, input: f, columns: "x*", dims: [row, col]}}
  arrays: {{expr: "(a - 0.5) / 2"}}
  frames: {{op: assign, input: f, columns: {{{", ".join(f'{name}: "({name} - 0.5) / 2"' for name in _NAMES)}}}}}
"""


def _transformed(x: Any) -> Any:
    return (x - np.float32(0.5)) / np.float32(2)


def _loader(dataset: Any, sizes: Sizes, *, batch_size: int | None) -> Any:
    return data.DataLoader(
        dataset, batch_size=batch_size, num_workers=sizes.n_workers, persistent_workers=True, prefetch_factor=4
    )


class _Tensors:
    """Our batches as tensors, which share their memory."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            rows = batch.to_numpy() if isinstance(batch, pd.DataFrame) else batch
            yield torch.from_numpy(rows if rows.flags.writeable else rows.copy())


_tensors = _Tensors


def _epochs(batches: Any) -> Callable[[], Callable[[], Any]]:
    def run() -> Callable[[], Any]:
        total, n = 0.0, 0
        for _ in range(_EPOCHS):
            for batch in batches:
                total += float(batch[:, 0].sum())
                n += len(batch)
        return lambda: [n, round(total, 1)]

    return run


class Rows(data.Dataset if data is not None else object):  # type: ignore[misc]
    """Rows of an npy file, one by one, as most users write it."""

    def __init__(self, path: Path) -> None:
        self.path, self.x = path, np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        return torch.from_numpy(_transformed(np.array(self.x[i])))


class Blocks(data.IterableDataset if data is not None else object):  # type: ignore[misc]
    """Batches of an npy file, each cut from it at once: the quickest way that torch offers."""

    def __init__(self, path: Path, n: int) -> None:
        self.path, self.n = path, n

    def __iter__(self) -> Iterator[Any]:
        x, worker = np.load(self.path, mmap_mode="r"), data.get_worker_info()
        for start in range(worker.id * _BATCH, self.n, worker.num_workers * _BATCH):
            yield torch.from_numpy(_transformed(np.array(x[start : start + _BATCH])))


class Groups(data.IterableDataset if data is not None else object):  # type: ignore[misc]
    """Batches of row groups of Parquet files, which the workers share out."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.parquet"))

    def __iter__(self) -> Iterator[Any]:
        worker = data.get_worker_info()
        groups = [(file, i) for file in self.files for i in range(pq.ParquetFile(file).num_row_groups)]
        for file, i in groups[worker.id :: worker.num_workers]:
            rows = _transformed(pq.ParquetFile(file).read_row_group(i).to_pandas().to_numpy())
            for start in range(0, len(rows), _BATCH):
                yield torch.from_numpy(np.ascontiguousarray(rows[start : start + _BATCH]))
