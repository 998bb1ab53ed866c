"""One step is lowered by itself: its inputs stay as they are, what it adds is its own, and the values are right."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import test_array_ops
import test_frame_ops
import xarray as xr
from named_ops import frames as ops
from serially import frame_of, rows_of

from pipeline.builder.lowering import building, enter, lower
from pipeline.config.expressions.expression import parse
from pipeline.graph import collect
from pipeline.graph.nodes import execute, ref, task, token, toposort
from pipeline.graph.value_types import ArrayType, FrameType
from pipeline.ops.collections import Items, Parts, Single


def run(tasks: dict[Any, Any], value_type: Any) -> Any:
    """The value of a value type, by running its tasks one after the other."""
    values: dict[Any, Any] = {}
    for key in toposort(tasks):
        values[key] = execute(tasks[key], values)
    return collect.argument(value_type, [values[key] for key in value_type.keys])


def array(data: np.ndarray, chunks: Any, **coords: Any) -> tuple[dict[Any, Any], ArrayType]:
    """An array step ``x`` of dims t, y that holds ``data``."""
    x = xr.DataArray(da.from_array(data, chunks=chunks, name="source"), dims=("t", "y"), coords=coords)
    tasks, value_type = lower(x, "x", {})
    return tasks, value_type


def frame(n_partitions: int) -> tuple[dict[Any, Any], FrameType, pd.DataFrame]:
    """A frame step ``f`` with columns a, b."""
    whole = pd.DataFrame({"a": np.arange(20) % 3, "b": np.arange(20.0)})
    made = frame_of(pa.Table.from_pandas(whole, preserve_index=False), n_partitions, "f")
    return dict(made.tasks), FrameType("f", n_partitions, made.schema), whole


def test_an_array_step_adds_only_its_own_tasks() -> None:
    data = np.arange(60.0).reshape(10, 6)
    tasks, value_type = array(data, (4, 3), t=np.arange(10))
    with building():
        x = enter(value_type)
        own, anomaly = lower(x - x.mean("t"), "anomaly", tasks)
    assert not set(own) & set(tasks)
    assert {key[0].split("/")[0] for key in own} == {"anomaly"}
    assert anomaly.name == "anomaly"
    result = run(tasks | own, anomaly)
    xr.testing.assert_identical(result, xr.DataArray(data, dims=("t", "y"), coords={"t": np.arange(10)}) - data.mean(0))


@pytest.mark.parametrize("n_partitions", [1, 3, 7])
def test_a_frame_step_leaves_its_inputs_as_placeholders(n_partitions: int) -> None:
    tasks, value_type, whole = frame(n_partitions)
    with building():
        f = enter(value_type)
        grouped = ops.groupby(f, by="a", agg={"b": parse("sum(b)", "agg")})
        own, totals = lower(grouped, "totals", tasks)
        merged, pairs = lower(ops.merge(f, ops.rename(f, columns={"b": "c"}), on="a"), "pairs", tasks)
    assert {key[0].split("/")[0] for key in own} == {"totals"}
    result = run(tasks | own, totals).sort_values("a", ignore_index=True)
    pd.testing.assert_frame_equal(result, whole.groupby("a", as_index=False)["b"].sum(), check_dtype=False)
    assert len(run(tasks | merged, pairs)) == sum(n * n for n in whole["a"].value_counts())


def test_a_step_that_changes_nothing_adds_no_task() -> None:
    tasks, value_type = array(np.zeros((4, 4)), (2, 2))
    own, same = lower(enter(value_type), "again", tasks)
    assert own == {}
    assert same.name == "x"
    frames, frame_type, _ = frame(3)
    own, same_frame = lower(enter(frame_type), "again", frames)
    assert own == {}
    assert same_frame.name == "f"


def test_concatenated_frames_have_partitions_of_one_name() -> None:
    tasks, value_type, whole = frame(3)
    own, both = lower(ops.concat(enter(value_type), enter(value_type)), "both", tasks)
    assert [key[0] for key in both.keys] == ["both"] * 6
    assert len(run(tasks | own, both)) == 2 * len(whole)


def test_items_values_and_parts_keep_the_names_of_their_copy() -> None:
    nodes = {("fit", i): task(("fit", i), abs, -i) for i in range(3)}
    own, value_type = lower(Items("fit", nodes, 3, ("a", "b", "c")), "fit", {})
    assert value_type.keys == (("fit", 0), ("fit", 1), ("fit", 2))
    single = Single(("s",), {("s",): task(("s",), sum, [1, 2])})
    _, parts = lower(Parts({"u": single}), "svd", {})
    assert parts.parts["u"].keys == (("svd.u",),)
    again, value = lower(Single(("fit", 1), own), "second", own)
    assert value.keys == (("second",),)
    assert run(own | again, value) == 1


_BUILD = """
import dask.array as da, xarray as xr, hashlib
from pipeline.builder.lowering import lower, enter, building
with building():
    x = xr.DataArray(da.ones((8, 8), chunks=(2, 4)), dims=("t", "y"))
    tasks, value_type = lower(x, "x", {})
    y = enter(value_type)
    own, _ = lower(((y - y.mean("t")) / y.std("t")).chunk({"t": 3}), "z", tasks)
edges = [(key, sorted(map(repr, node.dependencies))) for key, node in sorted(own.items())]
print(hashlib.sha256(repr(edges).encode()).hexdigest())
"""


@pytest.mark.parametrize("chunks", [(70, 6), (10, 3), ((1, 4, 65), (2, 4))], ids=["one chunk", "even", "uneven"])
@pytest.mark.parametrize("op", test_array_ops.BUILDS)
def test_array_ops_give_the_same_over_placeholders(op: str, chunks: Any) -> None:
    build = test_array_ops.BUILDS[op]
    values = test_array_ops.numbers("int32").astype("float64") if op == "svd" else test_array_ops.numbers()
    x = test_array_ops.lazy(values, chunks)  # an SVD has no room for missing values
    with building():
        tasks, value_type = lower(x, "x", {})
        own, made = lower(build(enter(value_type)), "y", tasks)
        expected = build(x)
    assert not set(own) & set(tasks)
    whole = {None: (made, expected)}
    if isinstance(expected, Parts):
        whole = {name: (made.parts[name], part) for name, part in expected.parts.items()}
    for part, wanted in whole.values():
        xr.testing.assert_identical(run(tasks | own, part).rename(None), wanted.compute().rename(None))


@pytest.mark.parametrize("cuts", [[], [50, 100]], ids=["one partition", "three"])
@pytest.mark.parametrize("op", test_frame_ops.EVERY_OP)
def test_frame_ops_give_the_same_over_placeholders(op: str, cuts: list[int]) -> None:
    one, other = test_frame_ops.cut(test_frame_ops.table(), cuts), test_frame_ops.cut(test_frame_ops.table(), [20])
    with building():
        tasks, value_type = lower(one, "one", {})
        more, other_type = lower(other, "other", {})
        tasks |= more
        own, made = lower(test_frame_ops.every_op(enter(value_type), enter(other_type))[op], "y", tasks, ordered=True)
        expected = rows_of(test_frame_ops.every_op(one, other)[op])
    assert not set(own) & set(tasks)
    got = run(tasks | own, made)
    by = list(got.columns)
    sort = {"by": by, "ignore_index": True, "key": lambda column: column.astype(str)}
    pd.testing.assert_frame_equal(got.sort_values(**sort), expected.sort_values(**sort))


def test_names_are_the_same_in_every_process(capsys: pytest.CaptureFixture[str]) -> None:
    exec(_BUILD, {})
    other = subprocess.run(
        [sys.executable, "-c", _BUILD], env={"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True
    ).stdout
    assert other == capsys.readouterr().out


def test_a_default_client_brings_no_peer_to_peer_tasks_in() -> None:
    tasks, value_type, _ = frame(7)
    with dask.config.set({"dataframe.shuffle.method": "p2p", "array.rechunk.method": "p2p"}), building():
        f = enter(value_type)
        own, _ = lower(ops.merge(f, f, on="a"), "pairs", tasks)
    assert not [key for key in own if "p2p" in str(key)]


def test_shared_nodes_read_their_own_dependencies_only() -> None:
    node = task("k", max, ref("a"), ref("b"))
    assert execute(node, {"a": 1, "b": 2, "unused": 3}) == 2


def _shifted(x: np.ndarray, by: Any, *, scale: float) -> np.ndarray:
    return (x + by) * scale


def test_tasks_chunk_by_chunk_are_those_that_dask_makes() -> None:
    x, y = da.ones((6, 4), chunks=(2, 3)), da.ones((1, 4), chunks=(1, 3))
    numbered = x.map_blocks(lambda block, block_id: block + block_id[0], dtype=float)
    made = [
        x + y * 2,
        da.blockwise(_shifted, "ijn", x, "ij", 3, None, scale=2.0, new_axes={"n": (1, 1)}, dtype=float),
        da.blockwise(_shifted, "ji", x, "ij", da.ones(4, chunks=3).T, "j", scale=1.0, dtype=float),
        da.blockwise(np.dot, "ik", x, "ij", x.T, "jk", dtype=float, concatenate=True),
        numbered,
    ]
    for array in made:
        nodes = {key: node for layer in array.dask.layers.values() for key, node in dict(layer).items()}
        eager = da.Array(nodes, array.name, array.chunks, meta=array._meta)
        lazy = da.Array(array.dask.copy(), array.name, array.chunks, meta=array._meta)
        for layer in lazy.dask.layers.values():
            layer.__dict__.pop("_cached_dict", None)
        dims = "abc"[: array.ndim]
        given, expected = (lower(xr.DataArray(each, dims=list(dims)), "s", {})[0] for each in (lazy, eager))
        assert token(given) == token(expected)
