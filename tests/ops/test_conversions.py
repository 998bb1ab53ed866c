"""``to_array``, ``to_frame``, ``to_items``: the values, the labels, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from serially import values_of

from pipeline.errors import ConfigError, DataError

MODULE = """
import numpy as np
import pandas as pd

def row(n):
    return {"n": n, "text": f"row {n}"}

def rows(n):
    return [{"n": n, "text": str(i)} for i in range(n)]

def table(n):
    return pd.DataFrame({"n": [n] * n, "text": ["x"] * n})

def bad(n):
    return {"n": None if n == 2 else n, "text": "x"}

def hundreds(n):
    return {"n": n * 100}

def vector(n):
    return np.arange(3) * n

def ragged(n):
    return np.arange(n)

def number():
    return 4

def many():
    return [{"n": 1, "text": "a"}, {"n": 2, "text": "b"}]

def total(x):
    return float(x.sum())

def n_of(row):
    return row["n"]

def length(rows):
    return len(rows)

def large(n):
    return n * 2**40

def huge(n):
    return n * 1e300

def half(n):
    return n / 2

def word(n):
    return "three"

def seven(n):
    return 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path


def values(steps: str, folder: Path) -> dict[str, Any]:
    return values_of("modules: [./mine.py]\nsteps:\n" + steps, folder)


@pytest.mark.parametrize(
    ("function", "n"),
    [("row", [1, 2, 3]), ("rows", [1, 2, 2, 3, 3, 3]), ("table", [1, 2, 2, 3, 3, 3])],
)
def test_items_become_rows_with_their_keys_as_columns(folder: Path, function: str, n: list[int]) -> None:
    got = values(
        f"""
          items: {{call: "mine:{function}", over: {{n: [1, 2, 3]}}}}
          f: {{op: to_frame, input: items, columns: {{n: int64, text: string}}}}
        """,
        folder,
    )["f"]
    assert list(got.columns) == ["key", "n", "text"]
    assert got["n"].tolist() == n
    assert got["key"].tolist() == [f"n={i}" for i in n]
    assert got["n"].dtype == "Int64"  # a declared column may have missing values
    assert isinstance(got["text"].dtype, pd.StringDtype)


def test_a_hundred_items_in_few_partitions_keep_their_order(folder: Path) -> None:
    got = values(
        """
          items: {call: "mine:row", over: {n: {range: 100}}}
          f: {op: to_frame, input: items, columns: {text: string}}
        """,
        folder,
    )["f"]
    assert list(got.columns) == ["n", "key", "text"]
    assert got["n"].tolist() == list(range(100))


def test_days_and_durations_are_types_of_columns_too(folder: Path) -> None:
    got = values_of(
        """steps:
  c: {command: [printf, "2001-02-03"]}
  f: {op: to_frame, input: c.stdout, columns: {d: date}}
  d: {command: [printf, "90min"]}
  g: {op: to_frame, input: d.stdout, columns: {s: duration}}""",
        folder,
    )
    assert got["f"]["d"].tolist() == [pd.Timestamp("2001-02-03")]
    assert got["g"]["s"].tolist() == [pd.Timedelta("90min")]


def test_a_value_that_does_not_fit_its_column_names_the_item(folder: Path) -> None:
    text = """
      items: {call: "mine:bad", over: {n: [1, 2, 3]}}
      f: {op: to_frame, input: items, columns: {n: KIND}}
    """
    with pytest.raises(DataError, match="item 'n=2': column 'n' got 200, which does not fit int8"):
        values(text.replace("bad", "hundreds").replace("KIND", "int8"), folder)
    got = values(text.replace("KIND", "float64"), folder)["f"]
    np.testing.assert_array_equal(got["n"], [1, np.nan, 3])
    got = values(text.replace("KIND", "int64"), folder)["f"]
    assert got["n"].tolist() == [1, pd.NA, 3]


def test_text_for_a_declared_number_names_the_item_and_the_value(folder: Path) -> None:
    with pytest.raises(DataError, match=r"item 'n=1': column 'text' got 'row 1', which does not fit float64"):
        values(
            """
              items: {call: "mine:row", over: {n: [1]}}
              f: {op: to_frame, input: items, columns: {text: float64}}
            """,
            folder,
        )


def test_a_value_becomes_the_rows_it_holds(folder: Path) -> None:
    got = values(
        """
          v: {call: "mine:many"}
          f: {op: to_frame, input: v, columns: {n: int64, text: string}}
        """,
        folder,
    )["f"]
    assert got.to_dict("list") == {"n": [1, 2], "text": ["a", "b"]}


def test_gathered_numbers_become_rows_with_matrix_keys(folder: Path) -> None:
    got = values(
        """
          x: {op: arange, matrix: {n: [4, 5]}, stop: "${n}", chunks: 2}
          s: {op: sum, input: x}
          f: {op: to_frame, input: "s[*]", columns: {total: float64}}
        """,
        folder,
    )["f"]
    assert got.to_dict("list") == {"n": [4, 5], "total": [6.0, 10.0]}


def test_an_array_becomes_a_row_a_cell(folder: Path) -> None:
    got = values(
        """
          x: {op: random, shape: {t: 3, y: 4}, chunks: {t: 2, y: 3}}
          f: {op: to_frame, input: x}
          n: {call: "mine:total", args: {x: "${x}"}}
        """,
        folder,
    )
    f = got["f"].sort_values(["t", "y"])
    assert list(f.columns) == ["t", "y", "value"]
    assert f["t"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert f["value"].sum() == pytest.approx(got["n"])


def test_an_array_becomes_a_column_a_label(folder: Path) -> None:
    got = values(
        """
          x: {op: arange, stop: 6, chunks: 2, dim: row}
          items: {op: to_items, input: x, along: row}
          y: {call: "mine:vector", over: {n: [1, 2]}}
          a: {op: to_array, input: y, along: n, dims: [k], shape: [3], dtype: int64}
          f: {op: to_frame, input: a, columns: k, prefix: c}
        """,
        folder,
    )["f"]
    assert got.to_dict("list") == {"n": ["n=1", "n=2"], "c0": [0, 0], "c1": [1, 2], "c2": [2, 4]}


@pytest.mark.parametrize("chunks", [{}, {"t": 2, "y": 1, "k": 2}])
def test_any_dim_of_an_array_may_become_the_columns(folder: Path, chunks: dict[str, int]) -> None:
    cube = xr.DataArray(np.arange(12.0).reshape(3, 2, 2), {"t": [5, 6, 7], "y": [0.5, 1.5]}, ["t", "y", "k"], name="x")
    cube.to_dataset().to_zarr(folder / "x.zarr", zarr_format=2)
    said = f", chunks: {{t: {chunks['t']}, y: {chunks['y']}, k: {chunks['k']}}}" if chunks else ""
    text = f"  x: {{op: from_zarr, path: x.zarr{said}}}\n  f: {{op: to_frame, input: x, columns: DIM, prefix: c}}\n"
    got = values(text.replace("DIM", "y"), folder)["f"].sort_values(["t", "c0.5"])
    assert list(got.columns) == ["t", "c0.5", "c1.5"]
    assert got.to_numpy().tolist() == [[t, 4 * i + k, 4 * i + k + 2] for i, t in enumerate([5, 6, 7]) for k in (0, 1)]
    got = values(text.replace("DIM", "t"), folder)["f"].sort_values(["y", "c5"])
    assert got.to_numpy().tolist() == [[y, n, n + 4, n + 8] for y, n in [(0.5, 0), (0.5, 1), (1.5, 2), (1.5, 3)]]
    with pytest.raises(ConfigError, match=r"\.columns: 'z' is no dim; the array has t, y, k"):
        values(text.replace("DIM", "z"), folder)


def test_a_dim_of_no_length_becomes_no_items(folder: Path) -> None:
    text = "  x: {op: arange, stop: 0, dim: t}\n  i: {op: to_items, input: x, along: t}\n"
    assert values(text, folder)["i"] == []


def test_items_of_times_in_one_second_have_keys_of_their_own(folder: Path) -> None:
    times = pd.to_datetime(["2001-01-01 00:00:00.25", "2001-01-01 00:00:00.5"])
    xr.DataArray([1.0, 2.0], {"t": times}, ["t"], name="x").to_dataset().to_zarr(folder / "x.zarr", zarr_format=2)
    steps = "  x: {op: from_zarr, path: x.zarr}\n  i: {op: to_items, input: x, along: t}\n"
    got = values(steps + "  f: {op: to_frame, input: n, columns: {n: float64}}\n"
                 '  n: {call: "mine:total", over: {x: i}}\n', folder)["f"]  # fmt: skip
    assert got["key"].nunique() == 2


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_items_are_stacked_along_a_dim_labelled_by_their_keys(folder: Path, chunks: int) -> None:
    got = values(
        f"""
          y: {{call: "mine:vector", over: {{n: [1, 2, 3]}}}}
          a: {{op: to_array, input: y, along: n, dims: [k], shape: [3], dtype: int32, chunks: {chunks}}}
        """,
        folder,
    )["a"]
    assert got.dims == ("n", "k")
    assert got.dtype == "int32"
    np.testing.assert_array_equal(got, np.arange(3) * np.array([[1], [2], [3]]))
    assert got["n"].values.tolist() == ["n=1", "n=2", "n=3"]


def test_an_item_of_another_shape_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"item 'n=2': got the shape \(2,\); shape: \[1\] is declared"):
        values(
            """
              y: {call: "mine:ragged", over: {n: [1, 2]}}
              a: {op: to_array, input: y, along: n, dims: [k], shape: [1], dtype: int64}
            """,
            folder,
        )


def test_a_frame_becomes_a_matrix(folder: Path) -> None:
    got = values(
        """
          items: {call: "mine:row", over: {n: {range: 20}}}
          f: {op: to_frame, input: items, columns: {text: string}}
          g: {op: assign, input: f, columns: {f1: "n * 2", f2: "n + 0.5"}}
          a: {op: to_array, input: g, columns: "f*", dims: [row, feature]}
          s: {op: sum, input: a, axis: row}
        """,
        folder,
    )["s"]
    np.testing.assert_allclose(got, [380, 200])
    assert got["feature"].values.tolist() == ["f1", "f2"]


@pytest.mark.parametrize(("function", "dtype", "said"), [
    ("large", "int32", "item 'n=1': got int64 values that don't fit into int32"),
    ("huge", "float32", "item 'n=1': got float64 values that don't fit into float32"),
    ("half", "int64", "item 'n=1': got float64 values that don't fit into int64"),
    ("word", "int64", "item 'n=1': got <U5 values that don't fit into int64"),
])  # fmt: skip
def test_an_item_that_does_not_fit_its_dtype_is_named(folder: Path, function: str, dtype: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        values(
            f"""
              y: {{call: "mine:{function}", over: {{n: [1]}}}}
              a: {{op: to_array, input: y, along: n, shape: [], dtype: {dtype}}}
            """,
            folder,
        )


COLUMNS = """
  items: {call: "mine:row", over: {n: [1, 2]}}
  f: {op: to_frame, input: items, columns: {text: string}}
  g: {op: assign, input: f, columns: {half: "n / 2", large: "n * 3_000_000_000", some: "sqrt(n - 1.5)"}}
  h: {op: merge, left: g, right: one, how: left, on: n}
  one: {op: to_frame, input: single, columns: {m: int64}}
  single: {call: "mine:seven", over: {n: [1]}}
"""


@pytest.mark.parametrize(("column", "dtype", "want"), [
    ("n", "int8", [1, 2]),
    ("half", "float32", [0.5, 1.0]),
    ("large", "float32", [3e9, 6e9]),
    ("m", "", [7.0, np.nan]),
    ("half", "int64", r"column 'half' \(float64\) has values that don't fit; dtype: int64 is declared"),
    ("large", "int32", r"column 'large' \(int64\) has values that don't fit; dtype: int32 is declared"),
    ("some", "int64", r"column 'some' \(float64\) has missing values; dtype: int64 is declared"),
    ("m", "int64", r"column 'm' \(int64\) has missing values; dtype: int64 is declared"),
])  # fmt: skip
def test_the_columns_of_a_matrix_must_fit_its_dtype(folder: Path, column: str, dtype: str, want: Any) -> None:
    said = f", dtype: {dtype}" if dtype else ""
    text = COLUMNS + f"  a: {{op: to_array, input: h, columns: [{column}], dims: [row, feature]{said}}}\n"
    if isinstance(want, str):
        with pytest.raises(DataError, match=want):
            values(text, folder)
    else:
        np.testing.assert_array_equal(np.sort(values(text, folder)["a"].to_numpy()[:, 0]), want)


def test_text_is_no_column_of_a_matrix(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.columns: 'text' is string; an array takes numbers: n"):
        values(COLUMNS + "  a: {op: to_array, input: f, columns: [n, text], dims: [row, feature]}\n", folder)


def test_a_frame_becomes_items_by_rows_and_by_partitions(folder: Path) -> None:
    got = values(
        """
          items: {call: "mine:row", over: {n: {range: 20}}}
          f: {op: to_frame, input: items, columns: {text: string}}
          r: {op: to_items, input: f, by: rows}
          p: {op: to_items, input: f, by: partitions}
          again: {call: "mine:n_of", over: {row: r}}
          sizes: {call: "mine:length", over: {rows: p}}
        """,
        folder,
    )
    assert got["again"] == list(range(20))
    assert sum(got["sizes"]) == 20


def test_slices_along_a_dim_are_items_with_its_labels(folder: Path) -> None:
    got = values(
        """
          x: {op: random, shape: {t: 5, y: 4}, chunks: {t: 2, y: 3}}
          slices: {op: to_items, input: x, along: t}
          totals: {call: "mine:total", over: {x: slices}}
          sums: {op: sum, input: x, axis: y}
          f: {op: to_frame, input: totals, columns: {total: float64}}
        """,
        folder,
    )
    np.testing.assert_allclose(got["f"]["total"], got["sums"])
    assert got["f"]["key"].tolist() == ["0", "1", "2", "3", "4"]


def test_a_value_is_a_number_in_an_expression(folder: Path) -> None:
    got = values(
        """
          n: {call: "mine:number"}
          x: {op: arange, stop: 3}
          y: {expr: "x * n"}
        """,
        folder,
    )
    np.testing.assert_array_equal(got["y"], [0, 4, 8])


def test_a_dim_of_length_0_has_no_items(folder: Path) -> None:
    steps = """
      x: {op: arange, stop: 0, dim: i}
      items: {op: to_items, input: x, along: i}
      n: {call: "mine:length", input: items}
    """
    assert values(steps, folder)["n"] == 0
