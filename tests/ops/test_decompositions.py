"""Factorisations of matrices of any chunks: what they multiply to, and that chunks do not show in them."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize
from hypothesis import given
from hypothesis import strategies as st
from strategies import SETTINGS, cut

from pipeline.errors import DataError, OpError
from pipeline.ops.arrays.decompositions import qr, svd, svd_compressed

DTYPES = ("float64", "float32", "int64", "bool", "complex128")


def matrix(rows: int, columns: int, dtype: str, *, rank: int = 99) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(rows + 100 * columns)
    if np.dtype(dtype).kind in "ib":
        return rng.integers(0, 5, (rows, columns)).astype(dtype)
    u, _, v = np.linalg.svd(rng.normal(size=(rows, columns)) + 1j * rng.normal(size=(rows, columns)))
    n = min(rows, columns)
    s = np.where(np.arange(n) < rank, 2.0 ** -np.arange(n), 0)
    found = (u[:, :n] * s) @ v[:n]
    return found.astype(dtype) if np.dtype(dtype).kind == "c" else found.real.astype(dtype)


def chunked(draw: Any, values: np.ndarray[Any, Any], *, unknown: bool = False) -> xr.DataArray:
    """The values in any chunks; ``unknown``: as those of a filtered frame are, of unknown lengths."""
    rows = tuple(draw(cut(len(values))))
    if unknown:
        name = f"x-{tokenize(values, rows)}"
        blocks = {(name, i, 0): block for i, block in enumerate(np.split(values, np.cumsum(rows)[:-1]))}
        sizes = ((np.nan,) * len(rows), values.shape[1:])
        return xr.DataArray(da.Array(blocks, name, sizes, dtype=values.dtype), dims=["row", "col"])
    return xr.DataArray(da.from_array(values, chunks=(rows, draw(cut(values.shape[1])))), dims=["row", "col"])


def computed(x: xr.DataArray) -> np.ndarray[Any, Any]:
    values = np.asarray(x.data.compute(scheduler="sync"))
    assert values.dtype == x.dtype
    assert [n for n, m in zip(values.shape, x.shape, strict=True) if m == m and n != m] == []
    return values


def close(got: Any, wanted: Any, single: bool, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 if single else tolerance)


@given(st.data())
@SETTINGS
def test_qr_multiplies_to_the_matrix_whatever_the_chunks(data: Any) -> None:
    dtype, unknown = data.draw(st.sampled_from(DTYPES)), data.draw(st.booleans())
    rows, columns = data.draw(st.integers(0, 25)), data.draw(st.integers(0, 5))
    values = matrix(rows, columns, dtype)
    parts = qr(chunked(data.draw, values, unknown=unknown)).parts
    q, r = computed(parts["q"]), computed(parts["r"])
    single, k = dtype == "float32", min(rows, columns)
    assert parts["q"].dims == ("row", "component")
    assert parts["r"].dims == ("component", "col")
    close(q @ r, values, single)
    close(np.conj(q.T) @ q, np.eye(k), single)
    assert not np.tril(r, -1).any()
    assert (np.diagonal(r).real >= 0).all()
    again = qr(chunked(data.draw, values)).parts
    if np.linalg.matrix_rank(values) == columns:  # else there are several
        close(computed(again["r"]), r, single)
        close(computed(again["q"]), q, single, 1e-7)


@given(st.data())
@SETTINGS
def test_svd_compressed_agrees_with_svd_for_all_chunks(data: Any) -> None:
    dtype, unknown = data.draw(st.sampled_from(DTYPES)), data.draw(st.booleans())
    rows, columns = data.draw(st.integers(1, 25)), data.draw(st.integers(1, 6))
    values = matrix(rows, columns, dtype)
    k = data.draw(st.integers(1, min(rows, columns)))
    parts = svd_compressed(chunked(data.draw, values, unknown=unknown), k=k, seed=5).parts
    u, s, v = (computed(parts[name]) for name in "usv")
    single = dtype == "float32"
    left, all_s, right = np.linalg.svd(values, full_matrices=False)
    close(s, all_s[:k], single, 1e-6)
    close(u * s @ v, (left[:, :k] * all_s[:k]) @ right[:k], single, 1e-4)
    close(np.conj(u.T) @ u, np.eye(k), single)
    assert [parts[name].dims for name in "usv"] == [("row", "component"), ("component",), ("component", "col")]
    if np.dtype(dtype).kind in "fc":
        whole = svd(chunked(data.draw, values)).parts
        signs = np.sign(np.real(computed(whole["u"])[:, :k] * np.conj(u)).sum(axis=0))
        close(signs, np.ones(k), single)


def test_numbers_depend_on_the_seed_and_rows_may_come_second() -> None:
    values = np.random.default_rng(1).normal(size=(60, 30))
    x = xr.DataArray(da.from_array(values, chunks=(7, 11)), dims=["row", "col"])
    found = [
        svd_compressed(each, k=3, axis=["row", "col"], n_power_iter=0, n_oversamples=2, seed=seed).parts["s"]
        for each, seed in ((x, 1), (x.transpose("col", "row"), 1), (x.chunk(row=60), 1), (x, 2))
    ]
    first, *others, other_seed = map(computed, found)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-12)
    assert abs(first - other_seed).max() > 1e-6
    exact = np.linalg.svd(values, compute_uv=False)[:3]
    better = [computed(svd_compressed(x, k=3, n_power_iter=n).parts["s"]) for n in (0, 2, 8)]
    errors = [abs(s - exact).max() for s in better]
    assert errors[0] > errors[1] > errors[2]


def test_many_chunks_are_brought_together_eight_at_a_time() -> None:
    values = np.random.default_rng(1).normal(size=(100, 2))
    x = xr.DataArray(da.from_array(values, chunks=(1, 2)), dims=["row", "col"])
    q = qr(x).parts["q"]
    fan_in = [len(node.dependencies) for key, node in dict(q.data.dask).items() if "climb" in str(key)]
    assert max(fan_in) == 8
    np.testing.assert_allclose(computed(q) @ computed(qr(x).parts["r"]), values, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("op", [qr, svd, lambda x: svd_compressed(x, k=1)])
def test_missing_values_fail_the_task_and_say_so(op: Any, bad: float) -> None:
    values = np.ones((6, 2))
    values[4, 1] = bad
    parts = op(xr.DataArray(da.from_array(values, chunks=(2, 2)), dims=["row", "col"])).parts
    with pytest.raises(DataError, match="the matrix has missing or infinite values"), np.errstate(all="ignore"):
        next(iter(parts.values())).data.compute(scheduler="sync")


def test_fewer_rows_than_components_are_told_in_the_run() -> None:
    x = chunked(lambda _: (1, 2), np.ones((3, 5)), unknown=True)
    with pytest.raises(DataError, match="got 3 rows, too few for k: 4 components"):
        svd_compressed(x, k=4).parts["s"].data.compute(scheduler="sync")
    with pytest.raises(OpError, match="k: got 6, but 'col' has 5 positions"):
        svd_compressed(x, k=6)
    with pytest.raises(OpError, match=r"the dim of the columns, is unknown until run time; .* axis: \[row, col\]"):
        svd_compressed(x, k=1, axis=["col", "row"])
