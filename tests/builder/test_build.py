"""A whole file as one Graph: kinds mixed, every key owned, sources read no more than is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from serially import graph_of, values_of

from pipeline.builder.build import build
from pipeline.config.loader import load
from pipeline.errors import ConfigError, DataError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

MODULE = """
def moments(x):
    return [{"power": p, "value": float((x ** p).mean())} for p in (1, 2, 3)]

def square(n):
    return n * n
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    frame = pd.DataFrame({"a": [1, 2, 3, 4], "b": [1.0, 2.0, 3.0, 4.0], "c": list("wxyz"), "d": [0, 0, 1, 1]})
    frame.to_parquet(tmp_path / "t.parquet")
    x = xr.DataArray(np.arange(24.0).reshape(6, 4), {"time": np.arange(6)}, ["time", "y"], name="x")
    x.to_dataset().chunk({"time": 2, "y": 4}).to_zarr(tmp_path / "x.zarr", zarr_format=2)
    return tmp_path


def columns(text: str, folder: Path) -> list[str]:
    return list(graph_of(text, folder).value_types["t"].schema.names)


# -- kinds ------------------------------------------------------------------------------------------------------------


def test_array_call_frame_and_array_again_are_one_graph(folder: Path) -> None:
    text = """
      modules: [./mine.py]
      steps:
        x: {op: arange, start: 1, stop: 5, chunks: 2, dim: row, dtype: float64}
        of_x: {call: "mine:moments", args: {x: "${x}"}}
        table: {op: to_frame, input: of_x, columns: {power: int64, value: float64}}
        odd: {op: filter, input: table, where: "power != 2"}
        matrix: {op: to_array, input: odd, columns: [power, value], dims: [row, feature]}
        total: {op: sum, input: matrix, axis: row}
    """
    total = values_of(text, folder)["total"]
    assert total.dims == ("feature",)
    np.testing.assert_allclose(total, [1 + 3, 2.5 + 25.0])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_key_of_every_config_is_owned_by_one_step(path: Path) -> None:
    graph = build(load(path))
    graph.validate()
    assert set(graph.owners) == set(graph.tasks)
    for key, owner in graph.owners.items():
        name = str(key[0] if isinstance(key, tuple) else key)
        assert name == owner or name.startswith((f"{owner}/", f"{owner}.")), (key, owner)


# -- columns ----------------------------------------------------------------------------------------------------------

READ = "steps:\n  t: {op: read_parquet, path: t.parquet}\n"
GROUPED = READ + "  g: {op: groupby, input: t, by: d, agg: {b: sum(b)}}\n"


def test_a_reader_reads_the_columns_that_somebody_needs(folder: Path) -> None:
    assert columns(GROUPED, folder) == ["b", "d"]
    assert values_of(GROUPED, folder)["g"].sort_values("d").to_dict("list") == {"d": [0, 1], "b": [3.0, 7.0]}


def test_columns_are_needed_through_filters_and_expressions(folder: Path) -> None:
    text = READ + (
        '  f: {op: filter, input: t, where: "a > 1"}\n'
        '  n: {op: assign, input: f, columns: {twice: "b * 2"}}\n'
        "  s: {op: select, input: n, columns: [twice]}\n"
    )
    assert columns(text, folder) == ["a", "b"]
    assert values_of(text, folder)["s"]["twice"].tolist() == [4.0, 6.0, 8.0]


@pytest.mark.parametrize(
    "use",
    ["keep: [t]", "outputs: {t: {to: parquet, path: out}}", "checks: [{that: t, rows: '>= 4'}]"],
    ids=["kept", "written", "checked"],
)
def test_all_columns_are_read_where_the_whole_frame_is_wanted(folder: Path, use: str) -> None:
    assert columns(GROUPED + use, folder) == list("abcd")


def test_a_call_gets_all_columns(folder: Path) -> None:
    text = "modules: [./mine.py]\n" + READ + '  v: {call: "mine:moments", args: {x: "${t}"}}\n'
    assert columns(text, folder) == list("abcd")


def test_a_suggestion_may_be_a_column_that_nobody_else_needs(folder: Path) -> None:
    text = READ + '  f: {op: filter, input: t, where: "bb > 1"}\n  s: {op: select, input: f, columns: [a]}\n'
    with pytest.raises(ConfigError, match=r"'bb' is no column of 't'; did you mean 'b'\?"):
        graph_of(text, folder)


# -- slices -----------------------------------------------------------------------------------------------------------

SLICED = "steps:\n  x: {op: from_zarr, path: x.zarr, variable: x}\n"


def sizes(text: str, folder: Path) -> dict[str, int]:
    value_type = graph_of(text, folder).value_types["x"]
    return {dim: int(sum(chunks)) for dim, chunks in zip(value_type.dims, value_type.chunks, strict=True)}


def test_a_slice_that_every_user_takes_is_read_and_nothing_else(folder: Path) -> None:
    text = SLICED + '  m: {op: mean, input: "x[time=2:4]", axis: time}\n  s: {op: sum, input: "x[time=2:4]"}\n'
    assert sizes(text, folder) == {"time": 2, "y": 4}
    values = values_of(text, folder)
    np.testing.assert_allclose(values["m"], [10.0, 11.0, 12.0, 13.0])
    assert float(values["s"]) == 92.0


@pytest.mark.parametrize("other", ['{op: sum, input: "x[time=0:2]"}', "{op: sum, input: x}"], ids=["another", "none"])
def test_all_is_there_where_users_take_different_slices(folder: Path, other: str) -> None:
    text = SLICED + f'  m: {{op: mean, input: "x[time=2:4]", axis: time}}\n  s: {other}\n'
    assert sizes(text, folder) == {"time": 6, "y": 4}
    np.testing.assert_allclose(values_of(text, folder)["m"], [10.0, 11.0, 12.0, 13.0])


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("use", "where"), [
    ('  s: {op: sum, input: "x[PICK]"}', "test.yaml:4:23: steps.s.input"),
    ('  m: {expr: "x * 2"}\n  s: {op: sum, input: "m[PICK]"}', "test.yaml:5:23: steps.s.input"),
    ('  s: {expr: "x[PICK] * 2"}', "test.yaml:4:13: steps.s.expr"),
    ('outputs: {x: {input: "x[PICK]", to: zarr, path: x.zarr}}', "test.yaml:4:22: outputs.x.input"),
    ('checks: [{that: "x[PICK] > 0"}]', "test.yaml:4:17: checks[0].that"),
])  # fmt: skip
@pytest.mark.parametrize(("pick", "labels"), [
    ("time=6", "{time: 6}"),
    ("time=4:7", "{time: [4, 7]}"),
    ("time=-7:", "{time: [-7, null]}"),
    ("time=6:", "{time: [6, null]}"),
    ("time=3:3", "{time: [3, 3]}"),
    ("y=9", ""),
])  # fmt: skip
def test_a_pick_of_nothing_is_a_fault_of_who_picks(folder: Path, use: str, where: str, pick: str, labels: str) -> None:
    with pytest.raises(ConfigError) as caught:
        graph_of("steps:\n  x: {op: from_zarr, path: x.zarr}\n" + use.replace("PICK", pick), folder)
    (fault,) = caught.value.faults
    n = 3 if pick.startswith("y") else 5
    assert str(fault).startswith(f"{where}: '")
    cure = "for labels: {op: sel, " if labels else "y has no labels"
    assert f"picks are positions, 0 to {n} here; {cure}" in str(fault)
    assert not labels or f"labels: {labels}}}" in str(fault)


@pytest.mark.parametrize(("steps", "where"), [
    ("  a: {op: arange, matrix: {p: [3, 4]}, stop: 3, dim: p}", "test.yaml:3:27: steps.a.matrix"),
    ("  n: {call: 'mine:square', matrix: {y: [1]}, args: {n: '${y}'}}\n  a: {expr: 'x * n'}", "test.yaml:5:3: steps.a"),
])  # fmt: skip
def test_no_dim_is_named_as_a_matrix_key(folder: Path, steps: str, where: str) -> None:
    text = "steps:\n" + steps
    if "x *" in steps:
        text = f"modules: [./mine.py]\n{text}\n  x: {{op: from_zarr, path: x.zarr}}"
    with pytest.raises(ConfigError) as caught:
        graph_of(text, folder)
    assert str(caught.value.faults[0]).startswith(where)
    assert "and the matrix a key of that name" in str(caught.value.faults[0])


@pytest.mark.parametrize(("step", "key"), [
    ("op: mean, input: x, axis: tim", "axis"),
    ("op: rechunk, input: x, chunks: {tim: 2}", "chunks"),
    ("op: sel, input: x, labels: {tim: 2}", "labels"),
    ("op: sel, input: x, labels: {time: 9}", "labels"),
    ("op: sel, input: x, labels: {y: 0}", "labels"),
    ("op: groupby, input: x, by: month(tim), agg: mean", "by"),
    ("op: take, input: x, at: {tim: time}, like: x", "at"),
    ("op: take, input: x, at: {time: tim}, like: x", "at.time"),
    ("op: resample, input: x, rule: {tim: MS}, agg: mean", "rule"),
    ("op: rolling, input: x, window: {tim: 2}, agg: mean", "window"),
    ("op: quantile, input: x, q: 0.5, axis: tim", "axis"),
    ("op: average, input: x, weights: other", "weights"),
    ("op: svd, input: other", "input"),
])  # fmt: skip
def test_what_an_array_lacks_is_said_at_the_key_that_asks_for_it(folder: Path, step: str, key: str) -> None:
    text = f"""
    steps:
      x: {{op: from_zarr, path: x.zarr}}
      other: {{op: arange, stop: 3, dim: z}}
      s: {{{step}}}
    """
    with pytest.raises(ConfigError) as caught:
        graph_of(text, folder)
    (fault,) = caught.value.faults
    name = key.rpartition(".")[2]
    assert (fault.path, fault.location.line) == (f"steps.s.{key}", 6)
    assert fault.location.column == text.splitlines()[-2].index(f"{name}: ") - 4 + len(f"{name}: ") + 1


@pytest.mark.parametrize(("check", "said"), [
    ("that: x", "a check needs one value; 'x' is an array of 24: pick one"),
    ('that: "x > 1"', "'x' is an array of 24"),
    ("that: x, approx: 3, abs: 1", "'x' is an array of 24"),
    ("that: t", "'t' is a frame of 4 columns: write t.a if it has one row, or one of rows, columns, equals_csv"),
    ("that: i", "'i' is items"),
])  # fmt: skip
def test_a_check_of_more_than_one_value_is_a_fault_of_the_file(folder: Path, check: str, said: str) -> None:
    text = """
steps:
  x: {op: from_zarr, path: x.zarr}
  t: {op: read_parquet, path: t.parquet}
  i: {op: to_items, input: t, by: rows}
checks: [{that: "x[time=0, y=0] == 0"}, {that: t, rows: 4}, {CHECK}]
"""
    with pytest.raises(ConfigError) as caught:
        graph_of(text.replace("CHECK", check), folder)
    (fault,) = caught.value.faults
    assert fault.path == "checks[2].that"
    assert said in fault.message


@pytest.mark.parametrize(("pick", "said"), [
    ("2:1", "selects nothing"),
    ("-1:-3", "selects nothing"),
    ("7", r"\[7:8\] is out of range: 'row' has 3 positions"),
])  # fmt: skip
def test_positions_among_rows_that_only_the_run_can_count(folder: Path, pick: str, said: str) -> None:
    text = """
steps:
  t: {op: read_parquet, path: t.parquet}
  some: {op: filter, input: t, where: "a > 1"}
  x: {op: to_array, input: some, columns: [a], dims: [row, column]}
  s: {op: sum, input: "x[row=PICK]"}
"""
    assert values_of(text.replace("PICK", "-1"), folder)["s"] == 4
    with pytest.raises((ConfigError, DataError), match=said):
        values_of(text.replace("PICK", pick), folder)


def test_a_frame_of_one_cell_is_a_scalar_in_an_expression(folder: Path) -> None:
    text = """
steps:
  t: {op: read_parquet, path: t.parquet}
  row: {op: filter, input: t, where: "a == 3"}
  cell: {op: select, input: row, columns: [b]}
  x: {op: from_zarr, path: x.zarr}
  y: {expr: "x[time=0] + VALUE"}
"""
    assert values_of(text.replace("VALUE", "${cell}"), folder)["y"].values.tolist() == [3.0, 4.0, 5.0, 6.0]
    assert values_of(text.replace("VALUE", "${row.d}"), folder)["y"].values.tolist() == [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(
        ConfigError, match=r"'row' is a frame with the columns a, b, c, d; if it has one row, .*\$\{row\.a\}"
    ):
        values_of(text.replace("VALUE", "${row}"), folder)
    with pytest.raises(ConfigError, match="'many' needs a frame of one row; it has 4: filter it"):
        values_of(text.replace("VALUE", "${many}") + "  many: {op: select, input: t, columns: [b]}", folder)


def test_a_batch_changes_neither_the_graph_nor_results_nor_names(folder: Path) -> None:
    text = 'modules: [./mine.py]\nsteps: {{s: {{call: "mine:square", over: {{n: {{range: 9}}}}{}}}}}\n'
    plain, batched = (graph_of(text.format(batch), folder) for batch in ("", ", batch: 4"))
    assert plain.fingerprint == batched.fingerprint
    assert plain.value_types["s"].names == batched.value_types["s"].names
    assert values_of(text.format(", batch: 4"), folder)["s"] == [n * n for n in range(9)]


# -- what dask hands to ``delayed`` -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "columns"), [(6, 4), (4, 6), (4, 4), (1, 3)])
@pytest.mark.parametrize("chunk", [2, 100])
def test_svd_is_a_part_of_the_graph_for_any_number_of_chunks(folder: Path, rows: int, columns: int, chunk: int) -> None:
    text = f"""
      seed: 1
      steps:
        x: {{op: random, shape: {{row: {rows}, col: {columns}}}, chunks: {{row: {chunk}}}}}
        s: {{op: svd, input: x}}
        u: {{expr: "s.u * 1"}}
        size: {{expr: "s.s * 1"}}
        v: {{expr: "s.v * 1"}}
      keep: [x]
    """
    values = values_of(text, folder)
    again = (values["u"] * values["size"]).values @ values["v"].values
    np.testing.assert_allclose(again, values["x"], atol=1e-12)


def test_svd_of_rows_that_only_the_run_can_count(folder: Path) -> None:
    text = (
        READ
        + """
  f: {op: filter, input: t, where: "a > 1"}
  x: {op: to_array, input: f, columns: [a, b], dims: [row, column]}
  s: {op: svd, input: x}
  size: {expr: "s.s * 1"}
"""
    )
    expected = np.linalg.svd(np.array([[2.0, 2.0], [3.0, 3.0], [4.0, 4.0]]), compute_uv=False)
    np.testing.assert_allclose(values_of(text, folder)["size"], expected, atol=1e-12)
