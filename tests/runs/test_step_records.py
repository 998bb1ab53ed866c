"""Records of steps: what changes them, what does not, and the reasons that two records give."""

from __future__ import annotations

import json
import linecache
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.config.signatures import reductions
from pipeline.runs.resume.reasons import differences, touched
from pipeline.runs.resume.recorder import Recorder
from pipeline.runs.resume.records import StepRecord, accept, records_from_json, records_to_json

HELPERS = '''
"""Helpers."""
LIMIT = 3


def smooth(x, n=LIMIT):
    """Smooth."""
    return x[:n]


def unused():
    return 0
'''
FUNCTIONS = """
import helpers


def f(k, data=None):
    return helpers.smooth([k] * 9)
"""
FILE = """
version: 1
modules: [./functions.py, ./helpers.py]
steps:
  t: {op: read_csv, path: "data/*.csv"}
  u: {op: filter, input: t, where: "x > 1"}
  f: {call: "functions:f", args: {k: 2}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"data/{name}.csv").write_text("x,y\n1,2\n")
    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    (tmp_path / "p.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record_all(folder: Path, text: str | None = None) -> dict[str, StepRecord]:
    config = loads(text or (folder / "p.yaml").read_text(), root=folder)
    return Recorder(config, build(config)).all()


def one(folder: Path, step: str, more: str = "") -> StepRecord:
    """The record of a step ``s``; there are steps ``t`` and ``u`` (frames), ``x`` and ``w`` (arrays) besides."""
    steps = ("t: {op: read_csv, path: data/a.csv}", "u: {op: read_csv, path: data/b.csv}",
             "x: {op: zeros, shape: {i: 4}}", "w: {op: ones, shape: {i: 4}}", f"s: {step}")  # fmt: skip
    text = f"version: 1\nmodules: [./functions.py, ./helpers.py, math]\n{more}\nsteps:\n  " + "\n  ".join(steps)
    return record_all(folder, text)["s"]


def test_records_of_an_unchanged_project_are_equal(project: Path) -> None:
    before, now = record_all(project), record_all(project)
    assert all(record.digest and not differences(before[name], record) for name, record in now.items())
    assert before == now


def test_records_are_the_same_after_json_and_have_no_component_twice(project: Path) -> None:
    made = record_all(project, FILE + '  many: {call: "functions:f", args: {k: "${q}"}, matrix: {q: {range: 50}}}\n')
    text = json.dumps(records_to_json(made.values()))
    assert records_from_json(json.loads(text)) == made
    assert text.count("smooth") == 1


@pytest.mark.parametrize(
    "damaged", [None, [], {}, {"version": 2}, {"version": 1, "components": [], "steps": {"f": {"op": 0}}},
                {"version": 1, "components": [{"shown": 3}], "steps": {}}, {"version": 1, "components": 1, "steps": 1}],
)  # fmt: skip
def test_a_damaged_record_is_none(damaged: Any) -> None:
    assert records_from_json(damaged) == {}


@pytest.mark.parametrize(
    ("file", "old", "new", "step", "reason"),
    [
        ("helpers.py", "x[:n]", "x[: n]  # first", "f", ""),
        ("helpers.py", '"""Smooth."""', '"""Smooth it."""', "f", "helpers.py: smooth() changed"),
        ("helpers.py", "LIMIT = 3", "LIMIT = 4", "f", "helpers.py: code outside functions changed"),
        ("p.yaml", "k: 2", "k: 3", "f", "k 2 -> 3"),
        ("p.yaml", "x > 1", "x  >  1", "u", ""),
        ("p.yaml", "x > 1", "x > 2", "u", "where x > 1 -> x > 2"),
        ("data/a.csv", "1,2", "1,3", "t", "1 of 2 files changed: data/a.csv"),
    ],
)
def test_a_change_gives_its_reason(project: Path, file: str, old: str, new: str, step: str, reason: str) -> None:
    before = record_all(project)
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new))
    now = record_all(project)
    assert differences(before[step], now[step]) == ([reason] if reason else [])
    assert (before[step].digest == now[step].digest) == (not reason)
    for name in {"t", "u", "f"} - {step}:
        assert before[name].digest == now[name].digest


F = '{{call: "functions:f", args: {{k: {}}}}}'
SAME: dict[str, tuple[str, str]] = {
    "a default that is written": ("{op: mean, input: x}", "{op: mean, input: x, skipna: true, axis: null}"),
    "a whole number for a float": ("{op: random, shape: {i: 4}, scale: 1}", "{op: random, shape: {i: 4}, scale: 1.0}"),
    "the layout of an expression": ('{expr: "x+w*2"}', '{expr: "x + (w * 2)"}'),
    "the order of arguments": (F.format("1, data: 2"), '{call: "functions:f", args: {data: 2, k: 1}}'),
    "the order of keys": ('{op: filter, input: t, where: "x > 1"}', '{where: "x > 1", input: t, op: filter}'),
    "nan": (F.format(".nan"), F.format(".NaN")),
    "a path": ("{op: read_csv, path: data/a.csv}", "{op: read_csv, path: ./data/../data/a.csv}"),
    "retries": ("{op: mean, input: x}", "{op: mean, input: x, retries: 2, timeout: 5min}"),
    "resources": ("{op: mean, input: x}", "{op: mean, input: x, resources: {GPU: 1}, checkpoint: true}"),
    "batch": ('{call: "functions:f", over: {k: [1, 2]}}', '{call: "functions:f", over: {k: [1, 2]}, batch: 2}'),
    "a list by range": ('{call: "functions:f", over: {k: [0, 1, 2]}}', '{call: "functions:f", over: {k: {range: 3}}}'),
    "hashes": ("{op: read_csv, path: data/a.csv}", "{op: read_csv, path: data/a.csv, hashes: true}"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "now"), SAME.values(), ids=SAME)
def test_what_means_the_same_has_the_same_record(project: Path, before: str, now: str) -> None:
    assert one(project, before).digest == one(project, now).digest != ""


CHANGED: dict[str, tuple[str, str, list[str]]] = {
    "int and float": (F.format("1"), F.format("1.0"), ["k 1 -> 1.0"]),
    "int and bool": (F.format("1"), F.format("true"), ["k 1 -> true"]),
    "int and text": (F.format("1"), F.format("'1'"), ['k 1 -> "1"']),
    "zero and minus zero": (F.format("0.0"), F.format("-0.0"), ["k 0.0 -> -0.0"]),
    "null and nothing": (F.format("null"), F.format("[]"), ["k null -> []"]),
    "a list and a value": (F.format("[1]"), F.format("1"), ["k [1] -> 1"]),
    "the order of a map": (F.format("{a: 1, b: 2}"), F.format("{b: 2, a: 1}"), ["k {a: 1, b: 2} -> {b: 2, a: 1}"]),
    "an argument more": (F.format("1"), F.format("1, data: x"), ["data default -> x"]),
    "a default": ("{op: mean, input: x}", "{op: mean, input: x, skipna: false}", ["skipna default -> false"]),
    "an op": ("{op: mean, input: x}", "{op: max, input: x}", ["mean -> max"]),
    "an input": ("{op: mean, input: x}", "{op: mean, input: w}", ["input x -> w"]),
    "a pick": ("{op: mean, input: x}", '{op: mean, input: "x[i=0:2]"}', ["input x -> x[i=0:2]"]),
    "the order of an expression": ('{expr: "x - w"}', '{expr: "w - x"}', ["expr x - w -> w - x"]),
    "a constant": ('{expr: "x + 1"}', '{expr: "x + 1.0"}', ["expr x + 1 -> x + 1.0"]),
    "a reference": (F.format('"${t}"'), F.format('"${u}"'), ["k t -> u"]),
    "a text around it": (F.format('"a ${v.p}"'), F.format('"b ${v.p}"'), ["k a ${v.p} -> b ${v.p}"]),
    "items": ('{call: "functions:f", over: {k: [1, 2]}}', '{call: "functions:f", over: {k: [1, 3]}}',
              ["over {k: [1, 2]} -> {k: [1, 3]}"]),
    "dropping": ('{call: "functions:f", over: {k: [1]}}', '{call: "functions:f", over: {k: [1]}, on_error: drop}',
                 ["on_error default -> drop"]),
    "parts": (F.format("1"), F.format("1")[:-1] + ", parts: [a, b]}", ["parts default -> [a, b]"]),
    "a program": ("{command: [cat, data/a.csv]}", "{command: [cat, data/b.csv]}",
                  ["command [cat, data/a.csv] -> [cat, data/b.csv]", "data/b.csv is new", "data/a.csv is gone"]),
    "another program": ("{command: [cat]}", "{command: [ls]}", ["command [cat] -> [ls]", "ls is new", "cat is gone"]),
    "a version": ("{call: 'functions:f', args: {k: 1}, code_version: 1}",
                  "{call: 'functions:f', args: {k: 1}, code_version: 2}", ["code_version 1 -> 2"]),
    "the first version": (F.format("1"), F.format("1")[:-1] + ", code_version: 2}", ["code_version default -> 2"]),
}  # fmt: skip


@pytest.mark.parametrize(("before", "now", "reasons"), CHANGED.values(), ids=CHANGED)
def test_what_means_something_else_has_another_record(project: Path, before: str, now: str, reasons: list[str]) -> None:
    more = "keep: []"
    records = [one(project, step.replace("${v.p}", "${t.x}"), more) for step in (before, now)]
    assert records[0].digest != records[1].digest
    assert differences(*records) == [text.replace("${v.p}", "${t.x}") for text in reasons]


UNKNOWN: dict[str, tuple[str, str]] = {
    "pure": ("{call: 'functions:f', args: {k: 1}, pure: false}", "pure: false, so it is never reused"),
    "a program that is not there": ("{command: [no_such_program_at_all]}", "the program 'no_such_program_"),
    "a program of an item": ("{command: ['${p}'], over: {p: [cat]}}", "which program it runs is unknown"),
    "a web service": ("{op: lookup, input: v, url: 'http://localhost/{id}'}", "what a web service answers has"),
}  # fmt: skip


@pytest.mark.parametrize(("step", "reason"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_cannot_be_recognised_is_unknown_with_the_reason(project: Path, step: str, reason: str) -> None:
    made = one(project, step.replace("input: v", "input: t"))
    assert (made.digest, made.task_digest) == ("", "")
    assert len(made.unknown) == 1
    assert made.unknown[0].startswith(reason)
    assert differences(made, made) == list(made.unknown)


def test_code_of_a_module_that_is_not_found_is_unknown(project: Path) -> None:
    (project / "helpers.py").write_text("import nowhere_at_all\n" + HELPERS)
    assert record_all(project)["f"].unknown == (
        "the module 'nowhere_at_all', which helpers.py imports, was not found; name it under modules",
    )


CELL = """
import helpers
WINDOW = 3

def doubled(function):
    def inner(x):
        return 2 * function(x)
    return inner

@doubled
def scaled(x):
    return x * WINDOW

def smooth(x, n=2):
    return helpers.smooth([scaled(x)], n)
"""


@pytest.mark.parametrize(
    ("old", "new", "reasons"),
    [
        ("WINDOW = 3", "WINDOW = 3  # wide", []),
        ("n=2", "n=3", ["smooth changed"]),
        ("WINDOW = 3", "WINDOW = 4", ["WINDOW changed"]),
        ("return x * WINDOW", "return WINDOW * x", ["scaled changed"]),
        ("return 2 * function(x)", "return 3 * function(x)", ["scaled changed"]),
        ("helpers.smooth([scaled(x)], n)", "scaled(x)", ["smooth changed", "helpers is gone", "helpers.py is gone"]),
    ],
)  # fmt: skip
def test_a_function_of_a_notebook_counts_with_what_it_reads(
    project: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, reasons: list[str]
) -> None:
    monkeypatch.syspath_prepend(project)
    monkeypatch.delitem(sys.modules, "helpers", raising=False)

    def made(source: str) -> StepRecord:
        space: dict[str, Any] = {"__name__": "__main__"}
        name = f"/tmp/ipykernel_1/{len(source)}-{source.count('3')}.py"
        monkeypatch.setitem(linecache.cache, name, (len(source), None, source.splitlines(True), name))
        exec(compile(source, name, "exec"), space)
        p = pipeline.Pipeline("notebook")
        p.step("s", call=space["smooth"], args={"x": 1})
        return Recorder(p.config, p.build()).of(p.config.steps["s"])

    assert old in CELL
    assert differences(made(CELL), made(CELL.replace(old, new))) == reasons
    sys.modules.pop("helpers", None)


def test_a_seed_counts_where_it_is_used(project: Path) -> None:
    def made(step: str, seed: int) -> StepRecord:
        return one(project, step, f"seed: {seed}")

    for step in ("{op: random, shape: {i: 4}}", "{op: sample, input: t, fraction: 0.5}"):
        assert differences(made(step, 1), made(step, 2)) == ["seed 1 -> 2"]
    for step in ("{op: mean, input: x}", F.format("1")):
        assert made(step, 1).digest == made(step, 2).digest
    (project / "functions.py").write_text(FUNCTIONS.replace("data=None", "seed=0"))
    seeded = F.format("1")[:-1] + ", seed: true}"
    assert differences(made(seeded, 1), made(seeded, 2)) == ["seed 1 -> 2"]


def test_an_op_that_gives_other_results_than_before_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = one(project, "{op: mean, input: x}")
    monkeypatch.setattr(reductions.Mean, "semantics", 2)
    reason = "results of mean are different in this version of Pipeline"
    assert differences(before, one(project, "{op: mean, input: x}")) == [reason]


def test_versions_of_what_an_op_and_the_code_use_count(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "helpers.py").write_text("import yaml\n" + HELPERS)
    before = {step: one(project, step) for step in ("{op: filter, input: t, where: 'x > 1'}", F.format('"${t}"'))}
    assert [set(record.component("versions").shown) for record in before.values()] == [
        {"duckdb", "pyarrow"},
        {"PyYAML", "pandas"},
    ]
    monkeypatch.setattr("pipeline.runs.resume.recorder.installed_versions", lambda names: dict.fromkeys(names, "99"))
    for step, record in before.items():
        was = record.component("versions").shown
        assert differences(record, one(project, step)) == [f"{name} {was[name]} -> 99" for name in sorted(was)]


def test_files_that_a_step_depends_on_count_with_its_code(project: Path) -> None:
    (project / "table").mkdir()
    (project / "table/x.csv").write_text("1")
    (project / "y.csv").write_text("1")
    step = F.format("1")[:-1] + ", code_version: 1, depends_on: [table, y.csv]}"
    before = one(project, step)
    (project / "y.csv").write_text("2")
    assert differences(before, one(project, step)) == ["y.csv changed"]
    (project / "table/z.csv").write_text("")
    assert differences(before, one(project, step)) == ["table changed", "y.csv changed"]
    config = loads((project / "p.yaml").read_text().replace("{k: 2}", "{k: 2}, depends_on: y.csv"), root=project)
    recorder = Recorder(config, build(config))
    assert recorder.of(config.steps["f"]).digest
    assert recorder.changed_files(config.steps["f"]) == []
    (project / "y.csv").write_text("333")
    assert recorder.changed_files(config.steps["f"]) == ["y.csv"]


def test_a_secret_counts_by_its_name_and_is_in_no_record(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {}
    for name, value in (("A_KEY", "hunter2"), ("A_KEY", "other"), ("B_KEY", "other")):
        monkeypatch.setenv(name, value)
        step = F.format(f'"Bearer ${{secret:{name}}}"')
        made[name, value] = one(project, step)
        assert value not in json.dumps(records_to_json([made[name, value]]))
    first, second, third = made.values()
    assert first.digest == second.digest != third.digest


def test_a_moved_project_has_the_same_records(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = record_all(project)
    moved = project.rename(project.with_name(f"{project.name}-moved"))
    monkeypatch.chdir(moved)
    assert {name: record.digest for name, record in record_all(moved).items()} == {
        name: record.digest for name, record in before.items()
    }


def test_outputs_count_by_how_they_are_written(project: Path) -> None:
    text = FILE + "outputs: {u: {to: csv, path: u.csv, overwrite: false}}\n"
    before = record_all(project, text)["write u"]
    assert record_all(project, text.replace("false", "true"))["write u"].digest == before.digest
    for old, new, reason in (
        ("u.csv", "v.csv", "path u.csv -> v.csv"),
        ("overwrite: false", "options: {sep: ';'}", "options default -> {sep: ;}"),
    ):
        assert differences(before, record_all(project, text.replace(old, new))["write u"]) == [reason]


def test_checks_count_by_what_must_hold_and_their_table(project: Path) -> None:
    def made(check: str) -> StepRecord:
        config = loads(f"{FILE}checks: [{check}]\n", root=project)
        return Recorder(config, build(config)).of_check(0)

    before = made("{that: u, equals_csv: data/a.csv}")
    (project / "data/a.csv").write_text("x,y\n1,9\n")
    assert differences(before, made("{that: u, equals_csv: data/a.csv}")) == ["data/a.csv changed"]
    assert differences(made("{that: u, rows: 2}"), made("{that: u, rows: '>= 3'}")) == ["rows == 2 -> >= 3"]
    assert made("{that: u, rows: 2}").upstream == ("u",)


def test_items_and_files_of_a_step_are_not_of_all_its_tasks(project: Path) -> None:
    first = one(project, '{call: "functions:f", over: {k: [1, 2]}}')
    second = one(project, '{call: "functions:f", over: {k: [1, 2, data/a.csv]}}')
    assert first.digest != second.digest
    assert first.task_digest == second.task_digest
    assert list(second.files) == ["data/a.csv"]


def test_touched_files_are_unchanged(project: Path) -> None:
    before = record_all(project)["t"]
    os.utime(project / "data/a.csv", (1e9, 1e9))
    now = record_all(project)["t"]
    assert (differences(before, now), touched(before, now)) == ([], ["data/a.csv"])


def test_new_and_missing_files_are_named(project: Path) -> None:
    before = record_all(project)["t"]
    for i in range(6):
        (project / f"data/n{i}.csv").write_text("x,y\n1,2\n")
    (project / "data/b.csv").unlink()
    assert differences(before, record_all(project)["t"]) == [
        "6 of 7 files are new: data/n0.csv, data/n1.csv, data/n2.csv and 3 more",
        "1 of 2 files is gone: data/b.csv",
    ]
    assert differences(None, before) == ["new"]


def test_a_long_list_is_shown_shortened_and_counts_as_a_whole(project: Path) -> None:
    def made(last: int) -> StepRecord:
        return one(project, f'{{call: "functions:f", over: {{k: [{", ".join(map(str, [*range(3000), last]))}]}}}}')

    before, now = made(1), made(2)
    assert len(before.component("parameters").shown["over"]) < 100
    (reason,) = differences(before, now)
    assert reason == "over changed: {k: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, …"


def test_an_accepted_change_keeps_the_key_until_the_next(project: Path) -> None:
    before = record_all(project)["f"]
    (project / "helpers.py").write_text(HELPERS.replace("return 0", "return 1"))
    accepted = accept(record_all(project)["f"], before, ["code"])
    assert accepted.digest == before.digest
    assert accept(record_all(project)["f"], accepted).digest == before.digest
    assert records_from_json(json.loads(json.dumps(records_to_json([accepted]))))["f"] == accepted
    (project / "helpers.py").write_text(HELPERS.replace("return 0", "return 2"))
    later = accept(record_all(project)["f"], accepted)
    assert differences(accepted, later) == ["helpers.py: unused() changed"]
