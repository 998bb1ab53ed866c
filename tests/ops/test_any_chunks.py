"""Every op on arrays gives the same for every chunking, with infinite, missing and zero values of both signs in it.

The ops come from their signatures, and so do their options: a switch or a choice is drawn; any other option has its
values in ``VALUES``, by its name, or is left out where it need not be given.
"""

from __future__ import annotations

import typing
from typing import Any, Literal

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import EXAMPLES, SETTINGS, cut

from pipeline.config.expressions.expression import parse
from pipeline.config.signatures import OPS, Signature
from pipeline.errors import DataError
from pipeline.graph.importing import resolve
from pipeline.ops.arrays.partial_aggregates import AGGREGATES

SPECIAL = (np.inf, -np.inf, np.nan, -0.0, 0.0)
PLAIN = (1.5, -2.0, 0.1, 7.0, 2.0**40, -(2.0**40), 3e-5)
FACTORS = {"qr", "svd", "svd_compressed", "solve"}
"""LAPACK's, which refuse missing and infinite values."""

VALUES: dict[str, Any] = {
    "at": {"x": parse("x", "coords")},
    "axis": st.sampled_from(["x", "y"]),
    "bins": [-(2.0**41), -1, 0, 0.1, 2, np.inf],
    "by": parse("zone", "coords"),
    "chunks": {"x": 2},
    "ddof": st.integers(0, 1),
    "depth": {"x": 1},
    "dim": "copy",
    "dims": {"cell": -1},
    "function": "numpy:negative",
    "k": st.sampled_from([2, -3]),
    "labels": {"x": ["2001-01-02", "2001-01-07"]},
    "pad_width": {"x": [1, 2], "y": [0, 1]},
    "q": [0.0, 0.3, 0.5, 1.0],
    "rule": {"x": "36h"},
    "shift": {"x": 2, "y": -1},
    "tolerance": {"x": "1h"},
    "subscripts": st.sampled_from(["x y, x y -> y", "x y, x z -> y z", "x y, x y -> "]),
    "window": st.sampled_from([{"x": 1}, {"x": 3}]),
}
VALUES |= {
    "coarsen boundary": "trim",  # any length is a multiple
    "matmul axis": st.sampled_from(["x", "y"]),
    "tensordot axis": ["x", "y"],
}
OPTIONAL = {"axis", "ddof"}  # given although they need not be


def array_ops() -> dict[str, type[Signature]]:
    """The ops that take arrays alone and give an array."""
    found = {}
    for name, classes in OPS.items():
        for cls in classes:
            kinds = {kind.rstrip("*") for role in cls.roles().values() for kind in role.kinds}
            if kinds == {"array"} and cls.home.startswith("arrays.") and name not in FACTORS:
                found[name] = cls
    return found


ARRAY_OPS = array_ops()


CASES = [(op, agg) for op, cls in ARRAY_OPS.items() for agg in (AGGREGATES if "agg" in cls.model_fields else [""])]


def options_of(draw: st.DrawFn, op: str, agg: str, dtype: str) -> dict[str, Any]:
    """One value for each option of an op that has to be given or may be drawn."""
    chosen: dict[str, Any] = {}
    for name, field in ARRAY_OPS[op].model_fields.items():
        values = VALUES.get(f"{op} {name}", VALUES.get(name))
        if name in ("agg", "dtype"):
            values = agg if name == "agg" else dtype
        elif values is None and field.annotation is bool:
            values = st.booleans()
        elif values is None and typing.get_origin(field.annotation) is Literal:
            values = st.sampled_from(typing.get_args(field.annotation))
        chosen_for = field.is_required() or name in OPTIONAL or f"{op} {name}" in VALUES or name not in VALUES
        if values is None or not chosen_for:
            assert not field.is_required(), f"op {op!r} needs {name!r}: write a value of it into VALUES"
            continue
        chosen[name] = draw(values) if isinstance(values, st.SearchStrategy) else values
    return chosen


@st.composite
def cases(draw: st.DrawFn, op: str, agg: str) -> tuple[np.ndarray, dict[str, Any], list[Any]]:
    """Values, options and several chunkings: one chunk, chunks of one value, and any other."""
    shape = (draw(st.integers(3, 8)), draw(st.integers(1, 3)))
    dtype = draw(st.sampled_from(["float64", "float64", "float32", "int8", "uint64"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    rare = draw(st.sampled_from([0.15, 0.6]))
    values = np.where(rng.random(shape) < rare, rng.choice(SPECIAL, shape), rng.choice(PLAIN, shape)).astype("float64")
    values = values.astype(dtype) if dtype.startswith("f") else rng.integers(0, 100, shape).astype(dtype)
    chunkings = [-1, 1, tuple(draw(cut(n)) for n in shape)]
    return values, options_of(draw, op, agg, dtype), chunkings


def applied(op: str, values: np.ndarray, options: dict[str, Any], chunks: Any) -> xr.DataArray | str:
    """What the op makes of the values in these chunks: an array, or the error of the run."""
    days = pd.date_range("2001-01-01", periods=len(values), freq="D")
    coords = {"x": days, "zone": ("x", np.arange(len(values)) % 2)}
    x, other = (xr.DataArray(da.from_array(v, chunks=chunks), coords, ["x", "y"]) for v in (values, values[::-1]))
    cls = ARRAY_OPS[op]
    several = len(cls.roles()) > 1 or any(role.many for role in cls.roles().values())
    inputs = [x, other.rename(y="z") if "-> y z" in options.get("subscripts", "") else other] if several else [x]
    lazy = resolve(cls.function_path())(*inputs, **options)
    try:
        found: xr.DataArray = lazy.compute(scheduler="sync")
        assert (found.dtype, found.dims) == (lazy.dtype, lazy.dims)
        return found
    except DataError as error:
        return str(error).partition(":")[0]  # then follows how often, in the first chunk that fails


def alike(got: np.ndarray, wanted: np.ndarray, scale: float) -> None:
    """Check that the same cells are NaN and infinite, and that the others differ by 4 ulp of ``scale`` at most."""
    if wanted.dtype.kind not in "fc":
        np.testing.assert_array_equal(got, wanted)
        return
    for part in ("real", "imag")[: 1 + (wanted.dtype.kind == "c")]:
        a, b = getattr(got, part), getattr(wanted, part)
        np.testing.assert_array_equal(np.where(np.isfinite(a), 0, a), np.where(np.isfinite(b), 0, b))
        with np.errstate(invalid="ignore"):
            off = np.where(np.isfinite(b), np.abs(a - b), 0)
        assert (off <= 4 * np.finfo(b.dtype).eps * scale).all(), (a, b)


@pytest.mark.parametrize(("op", "agg"), CASES)
@settings(SETTINGS, max_examples=max(EXAMPLES // 3, 3))
@given(data=st.data())
def test_the_same_for_every_chunking(op: str, agg: str, data: st.DataObject) -> None:
    values, options, chunkings = data.draw(cases(op, agg))
    finite = np.abs(np.where(np.isfinite(values), values, 0).astype("float64"))
    scale = max(finite.sum(), (finite**2).sum())
    wanted = applied(op, values, options, chunkings[0])
    for chunks in chunkings[1:]:
        got = applied(op, values, options, chunks)
        if isinstance(wanted, str) or isinstance(got, str):
            assert got == wanted
            continue
        assert (got.dims, got.dtype, got.shape) == (wanted.dims, wanted.dtype, wanted.shape)
        alike(got.values, wanted.values, scale)


def test_reductions_are_among_the_ops() -> None:
    assert {"sum", "mean", "var", "cumsum", "groupby", "resample", "rolling", "histogram", "matmul"} <= set(ARRAY_OPS)


@pytest.mark.parametrize(("agg", "wanted"), [("mean", np.inf), ("sum", np.inf), ("max", np.inf), ("std", np.nan)])
def test_groups_with_an_infinite_value(agg: str, wanted: float) -> None:
    values = np.array([[np.inf], [1.0], [2.0], [3.0]])
    options = {"by": parse("zone", "coords"), "agg": agg, "ddof": 0 if agg == "std" else None}
    for chunks in (1, 2, 3, -1):
        got = applied("groupby", values, options, chunks)
        assert not isinstance(got, str)
        np.testing.assert_array_equal(got.values[0], [wanted])
        assert np.isfinite(got.values[1])
