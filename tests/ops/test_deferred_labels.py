"""Deferred labels: the ids of the rows of a frame go with the array made of it, and come back in a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from serially import graph_of, values_of
from strategies import EXAMPLES, SETTINGS, cut, frames

from pipeline.config.loader import loads
from pipeline.errors import ConfigError, DataError
from pipeline.ops.to_frame import rows_of_chunk
from pipeline.runs.run import run

IDS = ("int64", "float64", "string", "timestamp", "bool")


def written(folder: Path, frame: pd.DataFrame, sizes: Any) -> None:
    for old in folder.glob("*.parquet"):
        old.unlink()
    edges = np.cumsum([0, *sizes])
    for i in range(len(sizes)):
        frame.iloc[edges[i] : edges[i + 1]].to_parquet(folder / f"{i}.parquet")


TABLE = """
    steps:
      table: {op: read_parquet, path: "*.parquet"}
      x: {op: to_array, input: table, columns: "f*", dims: [row, feature], labels: id}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frame = pd.DataFrame({"id": list("abcdefgh"), "n": range(8), "f0": np.arange(8.0), "f1": np.arange(8.0) ** 2})
    written(tmp_path, frame, (3, 0, 4, 1))
    return tmp_path


@given(st.data())
@SETTINGS
def test_the_id_of_each_row_comes_back_beside_its_values(tmp_path_factory: Any, data: Any) -> None:
    kind = data.draw(st.sampled_from(IDS))
    frame = data.draw(frames({"id": kind, "f0": "float64", "f1": "int64"}))
    place = tmp_path_factory.getbasetemp() / "labelled"
    place.mkdir(exist_ok=True)
    written(place, frame, data.draw(cut(len(frame))))
    text = """
    steps:
      table: {op: read_parquet, path: "*.parquet"}
      some: {op: filter, input: table, where: "not (f1 > 2)"}
      x: {op: to_array, input: some, columns: [f0, f1], dims: [row, feature], labels: id, dtype: float64}
      twice: {expr: "x + x"}
      wide: {op: to_frame, input: twice, columns: feature, prefix: twice_}
    keep: [some, x]
    """
    got = values_of(text, place)
    some, wide = got["some"], got["wide"]
    assert list(wide.columns) == ["id", "twice_f0", "twice_f1"]
    pd.testing.assert_series_equal(wide["id"], some["id"])
    pd.testing.assert_series_equal(wide["twice_f0"], 2 * some["f0"], check_names=False)
    assert got["x"].coords["id"].dims == ("row",)
    assert len(got["x"].coords["id"]) == len(some)


CARRIED: dict[str, str] = {
    "elementwise": '{expr: "x - 1"}',
    "a mean over the other dim": "{op: mean, input: x, axis: feature}",
    "a product": "{op: matmul, left: x, right: w}",
    "another order": "{op: transpose, input: x, dims: [feature, row]}",
    "a window along the other dim": "{op: rolling, input: x, window: {feature: 2}, agg: mean}",
    "some of the columns": "{op: sel, input: x, labels: {feature: f0}}",
    "a pick": "{op: cumsum, input: 'x[feature=1]', axis: row}",
    "rows in one chunk": "{op: rechunk, input: x, chunks: {row: -1}}",
    "rows that are moved on": "{op: roll, input: x, shift: {row: 1}}",
    "a window along the rows": "{op: rolling, input: x, window: {row: 2}, agg: mean}",
    "arrays side by side": "{op: stack, input: [x, x], dim: copy}",
    "a new name of the dim": '{op: einsum, input: x, subscripts: "case feature -> case feature"}',
}


@pytest.mark.parametrize("name", sorted(CARRIED))
def test_ops_that_do_not_move_rows_keep_the_labels(name: str, folder: Path) -> None:
    w = "      w: {op: ones, shape: {feature: 2, k: 3}}\n"
    value = values_of(f"{TABLE}{w}      r: {CARRIED[name]}\n    keep: [w]\n", folder)["r"]
    assert value.coords["id"].dims == (("case",) if name == "a new name of the dim" else ("row",))
    assert value.coords["id"].values.tolist() == list("abcdefgh")


DROPPED: dict[str, str] = {
    "a mean over the rows": "{op: mean, input: x, axis: row}",
    "a row that is their mean": "{op: mean, input: x, axis: row, keepdims: true}",
    "the largest rows": "{op: topk, input: x, k: 2, axis: row}",
    "rows that are added": "{op: pad, input: x, pad_width: {row: [0, 1]}}",
    "rows that are split": "{op: reshape, input: x, axis: row, dims: {a: -1, b: 2}}",
    "a product over the rows": '{op: einsum, input: [x, x], subscripts: "row feature, row other -> feature other"}',
}


@pytest.mark.parametrize("name", sorted(DROPPED))
def test_labels_end_with_their_dim(name: str, folder: Path) -> None:
    assert "id" not in values_of(f"{TABLE}      r: {DROPPED[name]}\n", folder)["r"].coords


REFUSED: dict[str, tuple[str, str]] = {
    "groups of labels": ("{op: groupby, input: x, by: id, agg: mean}", "'id' is unknown until run time, and this must"),
    "a part by labels": ("{op: sel, input: x, labels: {id: a}}", "no dim 'id'"),
    "text in an expression": (
        "{expr: \"x * coord(x, 'id')\"}",
        "'id' has the type string; expressions over arrays",
    ),
    "no such column": (
        "{op: to_array, input: table, columns: [f0], dims: [row, feature], labels: ids}",
        "labels: 'ids' is no column; there are ",
    ),
    "a name taken": (
        "{op: to_array, input: table, columns: [f0], dims: [id, feature], labels: id}",
        "labels: 'id' is a dim, too; name the dim otherwise",
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_can_not_carry_them_on_is_refused(name: str, folder: Path) -> None:
    step, message = REFUSED[name]
    with pytest.raises(ConfigError) as caught:
        graph_of(f"{TABLE}      r: {step}\n", folder)
    assert message in str(caught.value)


def test_labels_that_are_numbers_stand_in_expressions(folder: Path) -> None:
    text = TABLE.replace("labels: id", "labels: n") + "      r: {expr: \"x[feature=0] + coord(x, 'n')\"}\n"
    assert values_of(text, folder)["r"].values.tolist() == [2.0 * i for i in range(8)]


def test_a_call_gets_the_array_with_its_labels(folder: Path) -> None:
    (folder / "looking.py").write_text("def ids(x):\n    return ''.join(x.coords['id'].values)\n")
    text = f"modules: [./looking.py]{TABLE}".replace("    steps:", "steps:", 1).replace("\n      ", "\n  ")
    assert values_of(f'{text.rstrip()}\n  r: {{call: "looking:ids", input: x}}\n', folder)["r"] == "abcdefgh"


PARTS: dict[str, tuple[str, str]] = {
    "some positions": ("{expr: 'x[row=2:-1] * 1'}", "cdefg"),
    "the last ones": ("{expr: 'x[row=-2:] * 1'}", "gh"),
    "one array behind another": ("{op: concatenate, input: [x, 'x[row=0:3]'], axis: row}", "abcdefghabc"),
    "the first of each window": ("{op: coarsen, input: x, window: {row: 3}, agg: sum, boundary: trim}", "ad"),
}


@pytest.mark.parametrize("filtered", [True, False], ids=["counted in the run", "counted before"])
@pytest.mark.parametrize("name", sorted(PARTS))
def test_labels_are_cut_and_joined_as_the_rows_are(name: str, filtered: bool, folder: Path) -> None:
    step, want = PARTS[name]
    some = '  some: {op: filter, input: table, where: "n >= 0"}\n'
    text = TABLE.replace("      x:", f"    {some}      x:").replace("input: table, col", "input: some, col")
    text = f"{text if filtered else TABLE}      r: {step}\n"
    assert np.isnan(graph_of(text, folder).value_types["x"].chunks[0]).all() == filtered
    value = values_of(text, folder)["r"]
    assert "".join(value.coords["id"].values) == want


@given(st.data())
@settings(SETTINGS, max_examples=max(EXAMPLES // 3, 1))
def test_gathered_copies_keep_the_id_of_each_row(tmp_path_factory: Any, data: Any) -> None:
    kind = data.draw(st.sampled_from(IDS))
    frame = data.draw(frames({"id": kind, "f0": "float64", "f1": "int64"}))
    place = tmp_path_factory.getbasetemp() / "gathered"
    place.mkdir(exist_ok=True)
    written(place, frame, data.draw(cut(len(frame))))
    text = """
    steps:
      table: {op: read_parquet, path: "*.parquet"}
      some: {op: filter, input: table, where: "f1 == ${k}", matrix: {k: [2, 0, 9]}}
      x: {op: to_array, input: some, columns: [f0, f1], dims: [row, feature], labels: id, dtype: float64}
      all: {op: concatenate, input: "x[*]", axis: row}
      wide: {op: to_frame, input: all, columns: feature}
    """
    wide = values_of(text, place)["wide"]
    want = pd.concat([frame[frame["f1"] == k] for k in (2, 0, 9)], ignore_index=True)
    pd.testing.assert_frame_equal(wide[["id", "f0"]], want[["id", "f0"]], check_dtype=kind != "timestamp")


@pytest.mark.parametrize("counted", [True, False], ids=["counted before", "counted in the run"])
def test_outputs_hold_the_labels(counted: bool, tmp_path: Path) -> None:
    n = 7
    frame = pd.DataFrame({
        "text": pd.Series(["a", None, "", "ßo", *"xyz"], dtype="str"),
        "zoned": pd.date_range("2001-01-01", periods=n, tz="Europe/Berlin").as_unit("us"),
        "maybe": pd.array([1, None, 2, 3, 4, 5, 6], dtype="Int64"),
        "f": np.arange(n) / 2,
    })  # fmt: skip
    written(tmp_path, frame, (3, 0, 4))
    where = "" if counted else "  some: {op: filter, input: table, where: f > 0}\n"
    text = f"""version: 1
steps:
  table: {{op: read_parquet, path: "*.parquet"}}
{where}
  x:
    {{op: to_array, input: {"table" if counted else "some"}, columns: f, dims: [row, feature], labels: "${{id}}",
     matrix: {{id: [text, zoned, maybe]}}}}
outputs:
  a: {{input: x, to: netcdf, path: "${{id}}.nc"}}
  b: {{input: x, to: zarr, path: "${{id}}.zarr", options: {{chunks: {{row: {1 if counted else 2}}}}}}}
  c: {{input: "x[text]", to: npy, path: x.npy}}
"""
    r = run(loads(text, name="labelled", root=tmp_path), backend="serial", out=tmp_path / "out", runs=tmp_path / "runs")
    rows = frame if counted else frame[frame["f"] > 0]
    want = rows.assign(zoned=rows["zoned"].dt.tz_convert("UTC").dt.tz_localize(None), text=rows["text"].fillna(""))
    assert np.load(r.root / "x.npy")[:, 0].tolist() == rows["f"].tolist()
    for name in frame.columns[:-1]:
        for opened in (
            xr.open_dataset(r.root / f"{name}.nc", engine="h5netcdf"),
            xr.open_zarr(r.root / f"{name}.zarr", consolidated=True),
        ):
            with opened:
                (variable,) = opened.data_vars.values()
                assert variable.values[:, 0].tolist() == rows["f"].tolist()
                assert variable.coords[name].dims == ("row",)
                np.testing.assert_array_equal(variable.coords[name].values, _plain(want[name]))


def _plain(column: pd.Series) -> Any:
    return column.to_numpy(dtype=float, na_value=np.nan) if column.dtype == "Int64" else column.to_numpy()


def test_labels_and_rows_that_are_not_as_many_fail_the_task() -> None:
    schema = pa.schema([("id", pa.int64()), ("a", pa.float64())])
    with pytest.raises(DataError, match="there are 2 labels 'id' for 3 rows"):
        rows_of_chunk(schema, (0,), 1, [np.arange(2)], np.ones((3, 1)))


@pytest.mark.parametrize("where", ["f0 >= 0", "f0 > 100"])
def test_the_scores_of_a_filtered_table_are_joined_back_to_it(where: str, folder: Path) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(40, 6)) * [9, 5, 1, 1, 1, 1]
    table = pd.DataFrame(values, columns=[f"f{i}" for i in range(6)])
    table.insert(0, "id", rng.permutation(40))
    written(folder, table, (15, 20, 5))
    text = f"""
    steps:
      table: {{op: read_parquet, path: "*.parquet"}}
      some: {{op: filter, input: table, where: "{where}"}}
      x: {{op: to_array, input: some, columns: "f*", dims: [row, feature], labels: id}}
      mu: {{op: mean, input: x, axis: row}}
      centred: {{expr: "x - mu"}}
      pca: {{op: svd_compressed, input: centred, k: 2, axis: [row, feature], n_power_iter: 4}}
      scores: {{expr: "pca.u * pca.s"}}
      wide: {{op: to_frame, input: scores, columns: component, prefix: pc}}
      joined: {{op: merge, left: some, right: wide, how: inner, on: id}}
    """
    if "100" in where:  # no row is left: no component either
        with pytest.raises(DataError, match="got 0 rows, too few for k: 2 components"), np.errstate(all="ignore"):
            values_of(text, folder)
        return
    joined = values_of(text, folder)["joined"].sort_values("id", ignore_index=True)
    kept = table[table["f0"] >= 0].sort_values("id", ignore_index=True)
    pd.testing.assert_frame_equal(joined[kept.columns], kept)
    matrix = kept.iloc[:, 1:].to_numpy()
    u, s, _ = np.linalg.svd(matrix - matrix.mean(axis=0), full_matrices=False)
    wanted = u[:, :2] * s[:2]
    got = joined[["pc0", "pc1"]].to_numpy()
    np.testing.assert_allclose(np.abs(got), np.abs(wanted), atol=1e-6)
