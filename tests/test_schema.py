"""The JSON Schema accepts what the loader accepts, and refuses what it refuses; the listing names every op."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import loads
from pipeline.errors import ConfigError
from pipeline.schema import describe, json_schema, op_names, ops, ops_text
from pipeline.signatures import OPS

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))

GOOD = {
    "arrays": """version: 1
params: {n: 3, ps: [0.1]}
seed: 7
steps:
  a: {op: random, matrix: {v: [x, y]}, shape: {t: "${n}", x: 4}, chunks: {t: 2, x: auto}, dtype: float32}
  m: {op: mean, input: a, axis: [t, x], keepdims: true, retries: 2, timeout: 5min}
  q: {op: quantile, input: "a[x]", q: "${ps}", axis: t}
  g: {op: groupby, input: a, by: "month(t)", agg: mean}
  s: {op: sel, input: a, labels: {t: [1, null], x: "${n}"}, when: "${n} > 1"}
  e: {expr: "a - m"}
outputs:
  e: {to: zarr, path: "e-${v}.zarr", attrs: {units: K}}
checks: [{that: "m[x]", approx: 1, rel: 0.1}]
""",
    "frames": """version: 1
steps:
  f: {op: read_parquet, path: [a, b], columns: [k, x], cast: {x: float64}}
  g: {op: filter, input: f, where: "x > 1"}
  h: {op: groupby, input: g, by: [k], agg: {n: count(), m: mean(x)}}
  j: {op: merge, left: f, right: h, on: k, how: left}
  c: {op: concat, input: [f, g]}
  a: {op: assign, input: f, columns: {y: "x + 1", one: 1}}
  s: {op: sort_values, input: a, by: [k, y], ascending: [true, false]}
outputs: {s: {to: csv, path: s.csv, options: {sep: ";"}}}
checks: [{that: h, rows: ">= 1", columns: {k: string}}]
keep: [j]
""",
    "calls": """version: 1
modules: [m]
steps:
  d: {call: "m:load", args: {path: x, n: [1, {a: "b"}]}}
  f: {call: "m:fit", over: {a: [1, 2], b: {range: 3}}, args: {d: "${d}"}, parts: [x, y], seed: true, on_error: drop}
  s: {call: "m:each", over: f.x, batch: 8, input: [d]}
  t: {op: to_frame, input: f.y, columns: {v: float64}}
outputs: {s: {to: pickle, path: "s/${key}.pkl"}}
storage: {s3: {anon: true}}
cluster: {workers: 2, threads_per_worker: 1}
compare: {backends: [serial, dask], repeat: 3}
""",
}

BAD = {
    "no version": "steps: {a: {op: arange, stop: 1}}",
    "no steps": "version: 1",
    "another version": "version: 2\nsteps: {a: {op: arange, stop: 1}}",
    "unknown key": "version: 1\nsteps: {a: {op: arange, stop: 1}}\nout: {}",
    "no op": "version: 1\nsteps: {a: {op: arrange, stop: 1}}",
    "unknown parameter": "version: 1\nsteps: {a: {op: arange, stop: 1, size: 3}}",
    "missing parameter": "version: 1\nsteps: {a: {op: arange}}",
    "type": "version: 1\nsteps: {a: {op: arange, stop: [1]}}",
    "choice": "version: 1\nsteps: {a: {op: random, shape: {x: 1}, distribution: gauss}}",
    "bound": "version: 1\nsteps: {a: {op: arange, stop: 9}, b: {op: quantile, input: a, q: 2, axis: dim_0}}",
    "no input": "version: 1\nsteps: {a: {op: mean}}",
    "input of a source": "version: 1\nsteps: {a: {op: arange, stop: 1}, b: {op: arange, stop: 1, input: a}}",
    "two kinds": "version: 1\nsteps: {a: {op: arange, stop: 1, expr: b}}",
    "no kind": "version: 1\nsteps: {a: {stop: 1}}",
    "command": "version: 1\nsteps: {a: {command: [ls]}}",
    "args of an op": "version: 1\nsteps: {a: {op: arange, stop: 1, args: {b: 1}}}",
    "braces": 'version: 1\nsteps: {a: {op: arange, stop: 1}, b: {op: mean, input: "${a}"}}',
    "format": "version: 1\nsteps: {a: {op: arange, stop: 1}}\noutputs: {a: {to: xls, path: a}}",
    "partition_by": "version: 1\nsteps: {a: {op: arange, stop: 1}}\noutputs: {a: {to: parquet, path: a, partition_by: b}}",
    "no path": "version: 1\nsteps: {a: {op: arange, stop: 1}}\noutputs: {a: {to: zarr}}",
    "check": "version: 1\nsteps: {a: {op: arange, stop: 1}}\nchecks: [{row: 1}]",
    "name": "version: 1\nsteps: {1a: {op: arange, stop: 1}}",
    "retries": "version: 1\nsteps: {a: {op: arange, stop: 1, retries: -1}}",
    "on_error": "version: 1\nsteps: {a: {op: arange, stop: 1, on_error: skip}}",
    "leftovers": "version: 1\nsteps: {a: {op: arange, stop: 1}, b: {expr: where(a > 1, a, 0)}}",
    "cluster": "version: 1\nsteps: {a: {op: arange, stop: 1}}\ncluster: {worker: 1}",
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    """What check-jsonschema says of all the texts and configs: one process, since it takes a second to start."""
    folder = tmp_path_factory.mktemp("schema")
    (folder / "schema.json").write_text(json.dumps(json_schema()))
    files = {}
    for name, text in {**GOOD, **BAD}.items():
        files[str(folder / f"{name}.yaml")] = name
        (folder / f"{name}.yaml").write_text(text)
    files |= {str(path): path.name for path in CONFIGS}
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(folder / "schema.json"), "-o", "json"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert not report.get("parse_errors")
    refused = {files[error["filename"]] for error in report.get("errors", [])}
    return {name: name not in refused for name in files.values()}


@pytest.mark.parametrize("name", [*GOOD, *(path.name for path in CONFIGS)])
def test_the_schema_accepts(verdicts: dict[str, bool], name: str) -> None:
    assert verdicts[name]


@pytest.mark.parametrize("name", BAD)
def test_the_schema_refuses(verdicts: dict[str, bool], name: str) -> None:
    assert not verdicts[name]


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_the_loader_accepts_the_same(text: str) -> None:
    assert loads(text).steps


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_the_loader_refuses_the_same(text: str) -> None:
    with pytest.raises(ConfigError):
        loads(text)


@pytest.mark.parametrize("op", OPS)
def test_an_op_is_described_with_all_its_parameters(op: str) -> None:
    for entry, cls in zip(describe(op), OPS[op], strict=True):
        assert [p.name for p in entry.parameters] == list(cls.model_fields)
        assert all(f"  {p.name}: {p.type}" in str(entry) for p in entry.parameters)
        assert entry.summary


def test_the_listing_names_every_op_within_80_columns() -> None:
    text = ops_text()
    assert all(f"  {name} " in text for name in op_names())
    assert max(map(len, text.splitlines())) <= 80


def test_the_listing_as_data_can_be_written_as_json() -> None:
    assert {entry["op"] for entry in json.loads(json.dumps(ops()))} == set(OPS)


def test_an_unknown_op_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mean'"):
        ops_text("maen")


def test_hover_text_comes_from_the_docstrings() -> None:
    definition = json_schema()["definitions"]["op_mean"]
    assert "arithmetic mean" in definition["description"]
    assert definition["properties"]["axis"]["description"] == "dim or dims to reduce over; default: all"
