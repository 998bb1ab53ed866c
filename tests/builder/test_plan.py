"""The plan: what a file comes to, from metadata alone."""

from __future__ import annotations

import gc
import importlib
import math
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dask._task_spec import Task
from dask.callbacks import Callback

from pipeline.backends.registry import BACKENDS
from pipeline.builder.build import build
from pipeline.builder.plan import SOMETHING_MOVED, Plan, Row, plan, worker_memory
from pipeline.config.loader import load, loads
from pipeline.config.model import Config
from pipeline.errors import ConfigError, DataError
from pipeline.graph.garbage_collection import rarely_collected
from pipeline.report.plan_text import plan_event, plan_text

CONFIGS = Path(__file__).parents[2] / "configs"
MODULE = "def use(**given):\n    return len(given)\n"


def config(text: str, folder: Path) -> Config:
    (folder / "mine.py").write_text(MODULE)
    return loads("version: 1\nmodules: [./mine.py]\n" + textwrap.dedent(text), name="big", root=folder)


def planned(of: Config, *, data: bool = True) -> Plan:
    return plan(of, build(of) if data else None)


def rows(made: Plan) -> dict[str, Row]:
    return {row.step: row for row in made.rows}


def listing(*folders: Path) -> list[str]:
    return sorted(str(path) for folder in folders for path in folder.rglob("*") if "__pycache__" not in path.parts)


def test_steps_that_nothing_needs_are_named_in_one_line(tmp_path: Path) -> None:
    many = "".join(f"  x{i}: {{op: read_csv, path: missing-{i}.csv}}\n" for i in range(12))
    text = f"version: 1\nsteps:\n{many}  y: {{op: arange, stop: 3}}\noutputs: {{y: {{to: npy, path: y.npy}}}}\n"
    for data in (True, False):
        made = planned(loads(text, root=tmp_path), data=data)
        assert (list(rows(made)), made.unused) == (["y"], tuple(f"x{i}" for i in range(12)))
        assert plan_event(made)["unused"] == list(made.unused)
        line = "not computed, since no output, check or keep needs them: x0, x1, x2, x3, x4, x5, x6, x7 and 4 more"
        assert line in " ".join(plan_text(made).split())


def test_an_array_has_its_dims_chunks_and_copies_in_its_row() -> None:
    climate = rows(planned(load(CONFIGS / "climate.yaml")))
    tas = climate["tas"]
    assert (tas.kind, tas.shape) == ("array", "time: 60, latitude: 7, longitude: 9")
    assert (tas.copies, tas.tasks, tas.largest_chunk) == (2, 2 * 3, 24 * 7 * 9 * 4)
    assert (climate["warming"].shape, climate["warming"].copies) == ("one number", 2)
    assert (climate["summary"].kind, climate["summary"].shape) == ("frame", "scenario string, kelvin float64")


def test_a_frame_has_its_columns_and_its_notes_in_its_row() -> None:
    q3 = rows(planned(load(CONFIGS / "tpch" / "q03.yaml", sets={"root": str(CONFIGS.parent / "data" / "tpch")})))
    note = "rows for which 'c_mktsegment == 'BUILDING'' is not true are left out while reading, as far as columns tell"
    assert q3["customer"] == Row("customer", "frame", "c_custkey int64, c_mktsegment string", 1, 1, notes=(note,))
    assert q3["lines"].notes == ()  # a small side goes whole to the other
    assert q3["revenues"].shape == "l_orderkey int64, o_orderdate date, o_shippriority int32, revenue decimal(38, 4)"
    assert q3["customers"].notes == ()


def test_rows_stand_in_the_order_of_the_file() -> None:
    made = planned(load(CONFIGS / "tpch_q1.yaml"))
    assert [row.step for row in made.rows] == ["lineitem", "shipped", "summary", "q1"]
    assert made.graph is not None


def test_copies_that_do_not_exist_are_listed_with_the_reason(tmp_path: Path) -> None:
    text = """
    params: {least: 1}
    steps:
      a: {op: arange, stop: 4, matrix: {k: [1, 2]}, when: "${k} > ${least}"}
      b: {expr: "a * 2"}
      c: {op: sum, input: b, when: false}
    """
    for data in (True, False):
        made = planned(config(text, tmp_path), data=data)
        assert made.absent == {
            "a[1]": "when is false",
            "b[1]": "needs a[1], which does not exist",
            "c[1]": "when is false",
            "c[2]": "when is false",
        }
        assert plan_event(made)["absent"] == made.absent
        told = plan_text(made).splitlines()
        assert "b[1] does not exist: needs a[1], which does not exist" in told
        told = plan_text(made, shown=1).splitlines()
        assert "a[1] does not exist: when is false" in told
        assert "… 3 more instances that do not exist; --json lists all" in told


def test_items_values_parts_and_whole_arguments_are_in_the_plan(tmp_path: Path) -> None:
    text = """
    steps:
      x: {op: arange, start: 0, stop: 1000, chunks: 100, dim: row, dtype: float64}
      m: {op: random, shape: {a: 40, b: 3}, chunks: {a: 10}}
      s: {op: svd, input: m}
      each: {call: "mine:use", over: {k: [1, 2, 3]}, args: {x: "${x}"}}
      one: {call: "mine:use", args: {each: "${each}", u: "${s.u}"}}
    """
    told = rows(planned(config(text, tmp_path)))
    assert (told["s"].kind, told["s"].shape) == ("parts", "u, s, v")
    assert (told["each"].kind, told["each"].shape) == ("items", "3 items")
    assert told["each"].whole == 8000
    assert (told["one"].kind, told["one"].shape) == ("value", "one value")
    assert told["x"].whole is None


def test_a_rechunk_says_how_many_bytes_it_moves(tmp_path: Path) -> None:
    text = """
    steps:
      x: {op: arange, start: 0, stop: 1000, chunks: 100, dim: row, dtype: float64}
      y: {op: rechunk, input: x, chunks: {row: 300}}
      z: {expr: "y + 1"}
      rechunked: {expr: "z + 1"}
    """
    told = rows(planned(config(text, tmp_path)))
    assert told["y"].moved == 8000
    assert told["z"].moved is None
    assert told["rechunked"].moved is None


def test_a_shuffle_shows_the_bytes_read_for_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            frame = pd.DataFrame({"k": range(1000), "v": 1.0, "unused": 2.0, "s": "text"})
            frame.to_parquet(tmp_path / name / f"{i}.parquet")
    (tmp_path / "c.csv").write_text("k,w\n" + "1,2\n" * 100)
    text = """
    steps:
      a: {op: read_parquet, path: a, columns: [k, v]}
      b: {op: read_parquet, path: b, columns: [k, s]}
      c: {op: read_csv, path: c.csv, columns: [k]}
      some: {op: filter, input: a, where: "v > 0"}
      both: {op: merge, left: some, right: b, on: k}
      three: {op: concat, input: [some, d], columns: union}
      d: {op: drop_duplicates, input: b, subset: k}
      once: {op: drop_duplicates, input: three, subset: k}
    """
    told = rows(planned(config(text, tmp_path)))
    assert told["both"].moved is None  # the smaller input goes whole to each task
    moved = told["once"].moved
    assert moved is not None
    assert 3 * 1000 * (16 + 8) <= moved < 3 * 1000 * (16 + 8 + 20)  # keys and values; text as it is stored
    assert told["some"].moved is None
    assert SOMETHING_MOVED not in told["once"].notes
    sizes = planned(config(text, tmp_path)).graph.value_types
    assert (sizes["a"].nbytes, sizes["c"].nbytes) == (48_000, 404 / 2)
    assert math.isnan(sizes["some"].nbytes)


def test_what_nobody_can_know_before_the_run_is_left_open(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0]}).to_parquet(tmp_path / "t.parquet")
    text = """
    steps:
      t: {op: read_parquet, path: t.parquet}
      f: {op: filter, input: t, where: "a > 1"}
      x: {op: to_array, input: f, dims: [row, feature]}
      m: {op: mean, input: x, axis: row}
    """
    told = rows(planned(config(text, tmp_path)))
    assert told["x"].shape == "row: ?, feature: 2"
    assert told["x"].largest_chunk is None
    assert told["m"].shape == "feature: 2"


def test_back_ends_on_which_a_timeout_cannot_hold_are_named(tmp_path: Path) -> None:
    text = 'steps: {one: {call: "mine:use", args: {x: 1}, timeout: 5min}, two: {call: "mine:use", args: {x: 1}}}\n'
    told = rows(planned(config(text, tmp_path)))
    (note,) = told["one"].notes
    for name, (home, *_) in BACKENDS.items():
        module, _, cls = home.partition(":")
        can_stop = getattr(importlib.import_module(module), cls).capabilities.can_stop_tasks
        assert (name in note) == (not can_stop), name
    assert told["two"].notes == ()


def test_without_data_the_file_alone_is_told(tmp_path: Path) -> None:
    text = 'steps: {x: {op: from_zarr, matrix: {v: [a, b]}, path: "not/there/${v}.zarr"}}\n'
    made = planned(config(text, tmp_path), data=False)
    assert made.rows == (Row("x", "op", "", 2, 0, notes=("not built: --no-data",)),)
    assert made.graph is None


@pytest.mark.parametrize("name", ["quickstart", "climate", "weather", "tpch_q1", "larger_than_memory"])
def test_a_plan_creates_no_file_and_runs_no_task(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(Task, "__call__", lambda node, *_, **__: ran.append(node.key))
    monkeypatch.chdir(tmp_path)
    root = CONFIGS.parent
    before = listing(tmp_path, root / "configs", root / "data")
    with Callback(pretask=lambda key, *_: ran.append(key)):
        planned(load(CONFIGS / f"{name}.yaml"))
    assert ran == []
    assert listing(tmp_path, root / "configs", root / "data") == before


LARGE = """
cluster: {workers: 1, memory_limit: LIMIT}
steps:
  x: {op: random, shape: {row: 5125000, column: 1000}, chunks: {row: 1000}}
  small: {op: mean, input: x, axis: row}
  good: {call: "mine:use", args: {small: "${small}"}}
  final: {call: "mine:use", args: {good: "${good}", data: "${x}"}}
"""


def test_a_value_too_large_to_go_whole_into_one_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(config(LARGE.replace("LIMIT", "8GB"), tmp_path))
    assert str(caught.value) == (
        "big.yaml:9:59: steps.final.args.data: 'x' is 41.0 GB and would go whole into one task; a worker has 8.0 GB; "
        "reduce it first, or use op map_blocks"
    )


def test_a_value_that_fits_a_worker_goes_whole_into_one_task(tmp_path: Path) -> None:
    told = rows(planned(config(LARGE.replace("LIMIT", "42GB"), tmp_path)))
    assert told["final"].whole == 41_000_000_000
    assert told["good"].whole == 8_000


def test_a_worker_has_the_limit_of_the_cluster_or_its_share(tmp_path: Path) -> None:
    steps = "steps: {x: {op: arange, start: 0, stop: 1, chunks: 1, dim: row}}\n"
    assert worker_memory(config("cluster: {memory_limit: 640MB}\n" + steps, tmp_path)) == 640e6
    shares = [worker_memory(config(f"cluster: {{workers: {n}}}\n" + steps, tmp_path)) for n in (1, 4)]
    assert shares[0] == pytest.approx(4 * shares[1])


def test_a_plan_is_a_line_of_text_and_a_table_in_a_notebook():
    made = planned(loads("version: 1\nsteps: {x: {op: arange, stop: 8, chunks: 4, dim: '<i>'}}"))
    assert repr(made) == "<Plan: 1 step, 2 tasks>"
    assert '>&lt;i&gt;: 8</td><td style="text-align: right">2</td>' in made._repr_html_()
    unused = planned(
        loads("version: 1\noutputs: {x: {to: npy, path: x}}\nsteps: {x: {op: arange, stop: 8}, y: {expr: x}}")
    )
    assert "<li>not computed, since no output, check or keep needs it: y</li>" in unused._repr_html_()


def test_the_csv_of_a_check_is_looked_for_before_the_run(tmp_path):
    text = (
        "version: 1\nsteps: {x: {op: arange, stop: 8, dim: i}, f: {op: to_frame, input: x}}\n"
        "checks: [{that: f, equals_csv: nope.csv}]\n"
    )
    with pytest.raises(DataError, match=r"checks\[0\]\.equals_csv \(pipeline\.yaml:3:10\): .*/nope\.csv: no such file"):
        planned(loads(text, root=tmp_path))


def test_a_shuffle_of_what_only_the_run_knows_says_so(tmp_path: Path) -> None:
    text = """
    steps:
      paths: {op: files, path: "*.txt"}
      f: {op: to_frame, input: paths, columns: {path: string}}
      both: {op: merge, left: f, right: f, on: path}
    """
    for i in range(3):
        (tmp_path / f"{i}.txt").touch()
    made = planned(config(text, tmp_path))
    assert rows(made)["both"].moved is None
    assert SOMETHING_MOVED in rows(made)["both"].notes
    assert plan_text(made).splitlines()[-1].endswith("moved by rechunks and shuffles, more in the run")


def test_the_garbage_collector_is_left_as_it_was() -> None:
    before = gc.get_threshold()
    with rarely_collected(), rarely_collected():
        assert gc.get_threshold() > before
    assert gc.get_threshold() == before
