"""The JSON Schema accepts what the loader accepts, and refuses what it refuses; the listing names every op."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import cli
from pipeline.config import step_syntax
from pipeline.config.loader import loads
from pipeline.config.schema.document import json_schema
from pipeline.config.schema.listing import describe, op_names, ops, ops_text
from pipeline.config.sections.keys import StepKeys
from pipeline.config.signatures import COMMON_KEYS, OPS
from pipeline.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

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
    "commands": """version: 1
steps:
  a: {op: arange, stop: 3}
  b: {command: [sort, -n, "${a}", 3], env: {LC_ALL: C}, files: {table: t.csv}, check: false, pure: false}
  c: {command: [wc, -l], over: {n: [1, 2]}, stdin: b.stdout, on_error: drop}
outputs: {b: {input: b.table, to: file, path: t.csv}}
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
    "empty command": "version: 1\nsteps: {a: {command: []}}",
    "command as text": "version: 1\nsteps: {a: {command: ls -l}}",
    "args of a command": "version: 1\nsteps: {a: {command: [ls], args: {b: 1}}}",
    "args of an op": "version: 1\nsteps: {a: {op: arange, stop: 1, args: {b: 1}}}",
    "braces": 'version: 1\nsteps: {a: {op: arange, stop: 1}, b: {op: mean, input: "${a}"}}',
    "format": "version: 1\nsteps: {a: {op: arange, stop: 1}}\noutputs: {a: {to: xls, path: a}}",
    "partition_by": "version: 1\nsteps: {a: {op: arange, stop: 1}}\noutputs: {a: {to: npy, path: a, partition_by: b}}",
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
    """Whether check-jsonschema accepts each text and config; in one process, since it takes a second to start."""
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


# ---------------------------------------------------------------------------------------------------------------------
# What an editor shows and offers
# ---------------------------------------------------------------------------------------------------------------------

HERE = Path(__file__).parents[2]
SCHEMA = json_schema()
CLASSES = [
    (f"op_{op}" + (f"_{n + 1}" if n else ""), cls) for op, classes in OPS.items() for n, cls in enumerate(classes)
]


def described(schema: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key that can be written, with the text that an editor shows."""
    if isinstance(schema, list):
        for inner in schema:
            yield from described(inner, path)
        return
    if not isinstance(schema, dict):
        return
    for name, inner in schema.get("properties", {}).items():
        target = SCHEMA["definitions"][inner["$ref"].rsplit("/", 1)[1]] if "$ref" in inner else inner
        yield f"{path}.{name}", target.get("description", "")
        yield from described(inner, f"{path}.{name}")
    for word in ("additionalProperties", "items", "anyOf", "allOf", "then"):  # not "if", which nobody writes
        yield from described(schema.get(word), path)


def test_every_key_is_described() -> None:
    told = dict(described(SCHEMA))
    for name, definition in SCHEMA["definitions"].items():
        told |= dict(described(definition, name)) if name != "op_step" else {}
    assert len(told) > 400
    assert not [key for key, description in told.items() if not description.strip()]


def test_an_op_offers_its_parameters_and_the_common_keys_only() -> None:
    common = [key for key in COMMON_KEYS if key != "input"]
    for name, cls in CLASSES:
        definition = SCHEMA["definitions"][name]
        assert list(definition["properties"]) == ["op", *cls.inputs, *cls.model_fields, *common]
        assert definition["additionalProperties"] is False
        assert definition["properties"]["op"]["const"] == cls.op
        needed = {n for n, role in cls.roles().items() if not role.optional}
        needed |= {n for n, info in cls.model_fields.items() if info.is_required()}
        assert set(definition["required"]) == {"op", *needed}


def test_an_op_is_described_by_its_docstring_and_parameters() -> None:
    for name, cls in CLASSES:
        hover = SCHEMA["definitions"][name]["properties"]["op"]
        assert hover["description"] == SCHEMA["definitions"][name]["description"]
        assert "``" not in hover["markdownDescription"]
        assert all(word in hover["description"] for word in (cls.__doc__ or "").replace("``", "`").split())
        assert all(f"* `{key}`: " in hover["markdownDescription"] for key in (*cls.inputs, *cls.model_fields))


def test_each_op_is_offered_with_a_line_about_it() -> None:
    offered = SCHEMA["definitions"]["step"]["properties"]["op"]
    assert offered["enum"] == list(OPS)
    assert len(offered["enumDescriptions"]) == len(OPS)
    assert all(offered["enumDescriptions"])


def test_a_step_is_validated_by_the_schema_of_its_op() -> None:
    cases = {
        case["if"]["properties"]["op"]["const"]: case["then"] for case in SCHEMA["definitions"]["op_step"]["allOf"]
    }
    assert list(cases) == list(OPS)
    assert cases["mean"] == {"$ref": "#/definitions/op_mean"}
    assert cases["groupby"]["anyOf"] == [{"$ref": f"#/definitions/op_groupby{n}"} for n in ("", "_2")]


def test_the_keys_of_all_steps_are_those_that_no_op_may_take() -> None:
    assert {*StepKeys.model_fields, "input"} == set(COMMON_KEYS)
    assert set(SCHEMA["definitions"]["step"]["properties"]) == set(step_syntax.KINDS)


def test_references_lead_to_definitions() -> None:
    found = re.findall(r'"\$ref": "#/definitions/(\w+)"', json.dumps(SCHEMA))
    assert found
    assert set(found) <= set(SCHEMA["definitions"])
    used = {*found, *(name for name, _ in CLASSES)}
    assert set(SCHEMA["definitions"]) == used


def test_the_file_for_editors_is_what_the_command_prints() -> None:
    stored = (HERE / "docs" / "schema.json").read_text(encoding="utf-8")
    assert stored == f"{json.dumps(SCHEMA, indent=1)}\n", "write it again: make schema"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_config_names_the_schema_to_editors(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == HERE / "docs" / "schema.json"


def test_the_command_writes_the_schema_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", "-o", str(tmp_path / "schema.json")]) == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == SCHEMA
    assert cli.main(["schema", "--output", str(tmp_path / "nowhere" / "schema.json")]) == 5
    printed = capsys.readouterr()
    assert not printed.out
    assert "nowhere/schema.json: can't be written: No such file or directory; make its folder" in printed.err
