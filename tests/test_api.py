"""Pipelines built in Python, and written as files: what is asked for is the same."""

from __future__ import annotations

import copy
import datetime
import functools
import importlib
import inspect
import math
import os
import pickle
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SETTINGS

import pipeline
from pipeline import api
from pipeline.config.from_python import StepReference, tree_of
from pipeline.config.html_table import html_table
from pipeline.config.interpolation import python_value
from pipeline.config.yaml_nodes import parse
from pipeline.config.yaml_writer import yaml_text
from pipeline.errors import ConfigError, Location
from pipeline.experiments.comparison.compare import compare as compare_config
from pipeline.experiments.explanation.explain import explain as explain_config
from pipeline.runs.inspect import preview
from pipeline.runs.run import run as run_config

CONFIGS = sorted(Path(__file__).parents[1].joinpath("configs").glob("*.yaml"))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of the user's, and a package, imported from a folder."""
    (tmp_path / "my_models.py").write_text(
        "def fit(a, data=None, seed=0):\n    return a + (sum(data) if data else 0)\n\nclass Model:\n"
        "    @staticmethod\n    def make(): pass\n\ninner = lambda: 1\n"
    )
    (tmp_path / "my_package" / "deep").mkdir(parents=True)
    for folder in ("my_package", "my_package/deep"):
        (tmp_path / folder / "__init__.py").write_text("def load(): return [1, 2]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_models
    import my_package.deep

    yield my_models, my_package.deep
    for name in ("my_models", "my_package", "my_package.deep"):
        sys.modules.pop(name, None)


def faults_of(make: Any) -> list[tuple[str, str]]:
    """Path and message of each fault."""
    with pytest.raises(ConfigError) as raised:
        make()
    return [(fault.path, fault.message) for fault in raised.value.faults]


# ---------------------------------------------------------------------------------------------------------------------
# Built
# ---------------------------------------------------------------------------------------------------------------------


def test_what_is_built_is_what_a_file_asks_for(models: Any, tmp_path: Path) -> None:
    my_models, _ = models
    with open(tmp_path / "my_models.py", "a") as file:
        file.write("def use(*inputs, **keywords): ...\n")
    p = pipeline.Pipeline("all", params={"n": 4, "folds": [1, 2]}, seed=3, modules=["numpy"], root=tmp_path)
    x = p.step("x", op="arange", matrix={"var": ["a", "b"]}, stop="${n}", chunks=2, dim="time")
    p.step("m", op="mean", input=x, axis="time")
    p.step("d", expr=f"{x} - {p['m']}")
    p.step(
        "fit",
        call=my_models.fit,
        over={"a": range(3)},
        args={"data": x["a"], "seed": [x["b"], "${var2}"]},
        matrix={"var2": ["q"]},
    )
    p.step("s", op="svd", input=p["x[a]"])
    p.step("all", call="my_models:use", input=[p["m"]["*"], "d[b]"], args={"a": p["s"].u[{"time": 0}]})
    p.output("d", to="zarr", path="d-${var}.zarr")
    p.output("u", input=p["s"].u, to="npy", path="u")
    p.expect(p["m"]["a"], approx=1.5, abs=0.1)
    p.expect("m[b] > 0")
    p.keep("fit", x["a"])
    text = f"""
        version: 1
        name: all
        params: {{n: 4, folds: [1, 2]}}
        seed: 3
        modules: [numpy, {tmp_path}/my_models.py]
        steps:
          x: {{op: arange, matrix: {{var: [a, b]}}, stop: "${{n}}", chunks: 2, dim: time}}
          m: {{op: mean, input: x, axis: time}}
          d: {{expr: "x - m"}}
          fit:
            call: "my_models:fit"
            over: {{a: {{range: 3}}}}
            args: {{data: "${{x[a]}}", seed: ["${{x[b]}}", "${{var2}}"]}}
            matrix: {{var2: [q]}}
          s: {{op: svd, input: "x[a]"}}
          all: {{call: "my_models:use", input: ["m[*]", "d[b]"], args: {{a: "${{s.u[time=0]}}"}}}}
        outputs:
          d: {{to: zarr, path: "d-${{var}}.zarr"}}
          u: {{input: s.u, to: npy, path: u}}
        checks: [{{that: "m[a]", approx: 1.5, abs: 0.1}}, {{that: "m[b] > 0"}}]
        keep: [fit, "x[a]"]
    """
    assert p == pipeline.load(textwrap.dedent(text))
    assert p == pipeline.load(p.to_yaml())
    assert p.steps[-1] == "all"


def test_what_is_built_runs(models: Any, tmp_path: Path) -> None:
    my_models, _ = models
    p = pipeline.Pipeline("small", params={"n": 6}, root=tmp_path)
    x = p.step("x", op="arange", stop="${n}", chunks=2, dim="i")
    p.step("total", op="sum", input=x[{"i": slice(1, None)}])
    p.step("fit", call=my_models.fit, over={"a": np.array([1, 2])})
    p.step("frame", op="to_frame", input=p["fit"], columns={"fit": "int64"})
    p.output("frame", to="csv", path="frame.csv")
    p.expect("total", approx=15, abs=0)
    r = p.run(backend="serial", out=tmp_path / "out", runs=tmp_path / "runs")
    assert (tmp_path / "out" / "frame.csv").read_text().splitlines()[0] == "a,key,fit"
    assert r.checks[0].ok


def test_a_step_added_later_is_part_of_it() -> None:
    p = pipeline.Pipeline("p")
    p.step("x", op="arange", stop=4)
    assert len(p.config.steps) == 1
    first = p.config
    assert p.config is first
    p.step("y", expr="x + 1")
    assert list(p.config.steps) == ["x", "y"]
    assert list(first.steps) == ["x"]


def test_a_built_one_includes_files(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("params: {n: 3}\nsteps: {x: {op: arange, stop: '${n}'}}\n")
    p = pipeline.Pipeline("more", include=["base.yaml"], params={"n": 5}, root=tmp_path)
    p.step("y", expr="x + 1")
    assert p.config.steps["x"].parameters.stop == 5
    assert "include" not in p.to_yaml()
    assert pipeline.load(p.to_yaml()) == p


def test_values_of_numpy_dates_and_paths_are_those_of_python(tmp_path: Path) -> None:
    args = {"a": np.float32(0.5), "b": np.arange(2), "c": datetime.date(1995, 3, 15), "d": tmp_path, "e": (1, None)}
    p = pipeline.Pipeline("p", modules=["m"])
    p.step("f", call="m:f", args={**args, "g": {1: True, "n": math.nan, "i": -math.inf}, "r": range(2)})
    got = copy.deepcopy(dict(p.config.steps["f"].args))
    assert math.isnan(got["g"].pop("n"))
    assert got == {
        "a": 0.5,
        "b": [0, 1],
        "c": "1995-03-15",
        "d": str(tmp_path),
        "e": [1, None],
        "g": {"1": True, "i": -math.inf},
        "r": [0, 1],
    }
    assert type(got["g"]["1"]) is bool
    assert pipeline.load(p.to_yaml()) == p


def test_functions_bring_their_modules(models: Any, tmp_path: Path) -> None:
    my_models, deep = models
    p = pipeline.Pipeline("p")
    p.step("a", call=my_models.fit, args={"a": 1})
    p.step("b", call=deep.load)
    p.step("c", call=textwrap.dedent, args={"text": "x"})
    p.step("d", call=my_models.Model.make)
    p.step("e", call=math.sqrt, args={"x": 2})
    (fault,) = faults_of(lambda: p.step("f", call=math.sqrt, args={"function": math.sqrt}))
    assert fault[0] == "steps.f.args.function"
    assert p.config.shipped == (str(tmp_path / "my_models.py"), str(tmp_path / "my_package"))
    assert p.config.modules == ("textwrap", "math")
    assert [step.function for step in p.config.steps.values()] == [
        *("my_models:fit", "my_package.deep:load", "textwrap:dedent", "my_models:Model.make", "math:sqrt")
    ]


def test_functions_of_ops_and_references_are_named_too(models: Any, tmp_path: Path) -> None:
    p = pipeline.Pipeline("p", compare={"reference": {"call": models[1].load}})
    x = p.step("x", op="arange", stop=4, chunks=2, dim="i")
    p.step("y", op="map_blocks", input=x, function=models[0].fit, dtype="int64")
    assert p.config.steps["y"].parameters.function == "my_models:fit"
    assert p.config.compare == {"reference": {"call": "my_package.deep:load"}}
    assert p.config.shipped == (str(tmp_path / "my_package"), str(tmp_path / "my_models.py"))


def test_a_module_that_is_given_is_not_added(models: Any, tmp_path: Path) -> None:
    p = pipeline.Pipeline("p", modules=["./my_models.py"], root=tmp_path)
    p.step("a", call=models[0].fit, args={"a": 1})
    assert p.config.shipped == (str(tmp_path / "my_models.py"),)


def test_functions_of_no_module_are_kept_as_objects(models: Any) -> None:
    def own(x: int) -> int:
        return x + 1

    p = pipeline.Pipeline("p")
    given = [own, models[0].inner, functools.partial(models[0].fit, 1), lambda x: x, own, "text".upper]
    for i, function in enumerate(given):
        p.step(f"s{i}", call=function, args={"x": 1} if i in (0, 3, 4) else {})
    names = [step.function.removeprefix("__main__:") for step in p.config.steps.values()]
    assert names == ["own", "lambda", "fit", "lambda_2", "own", "upper"]
    assert p.config.functions["__main__:own"] is own
    with pytest.raises(ConfigError, match=r"steps\.s0: calls __main__:own, a function that is in no module"):
        p.to_yaml()


def test_faults_name_file_and_line_of_the_call(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        'import pipeline\np = pipeline.Pipeline("p")\np.step("x", op="arange", stop=4)\n\n'
        'p.step(\n    "y",\n    op="mean",\n    input="z", axes=1)\np.output("x", to="parquet", path="x")\n'
        'p.expect("q > 0")\n'
    )
    space: dict[str, Any] = {}
    exec(compile(script.read_text(), str(script), "exec"), space)
    with pytest.raises(ConfigError) as raised:
        space["p"].check()
    told = [(f.location.line, f.location.column, f.path) for f in raised.value.faults]
    assert told == [(5, 1, "steps.y.axes"), (5, 1, "steps.y.input"), (9, 1, "outputs.x.to"), (10, 1, "checks[0].that")]
    assert f"{script}:5:1: steps.y.input: no step is named 'z'" in str(raised.value)


def test_what_has_no_place_in_a_file_is_refused() -> None:
    p = pipeline.Pipeline("p")
    p.step("x", op="arange", stop=4)
    assert "is here a second time; first at" in faults_of(lambda: p.step("x", op="arange", stop=4))[0][1]
    for value, said in (
        (object(), "a pipeline contains numbers, text"),
        ({1: 2, "1": 3}, "the key '1' is here twice"),
        (functools.reduce(lambda inner, _: [inner], range(50), 1), "nested deeper than 40"),
        (list(range(100_001)), "more than 100,000 values"),
        (10**500, "which is not a number in YAML"),
    ):
        (fault,) = faults_of(lambda value=value: p.step("y", call="m:f", args={"a": value}))
        assert said in fault[1]
        assert fault[0].startswith("steps.y.args.a")
    assert p.config.steps.keys() == {"x"}
    (fault,) = faults_of(lambda: pipeline.Pipeline("p", params={"a": print}))
    assert fault[0] == "params.a"
    assert fault[1].startswith(
        "got <built-in function print> (builtin_function_or_method); a pipeline contains numbers,"
    )
    p.step("long", call="math:sqrt", args={"text": "x" * 300_000})
    assert "is larger than a file may be" in faults_of(lambda: p.config)[0][1]


LOADED = """
version: 1
name: base
steps:
  x: {op: arange, stop: "${n}", chunks: 2, dim: i}
  y: {expr: "x * 2"}
params: {n: 4}
outputs: {y: {to: npy, path: y}}
"""


def test_a_loaded_one_is_not_added_to(tmp_path: Path) -> None:
    p = pipeline.load("version: 1\nsteps: {x: {op: arange, stop: 4}}\n")
    for change in (lambda: p.step("y", expr="x"), lambda: p.output("x", to="npy", path="x"), lambda: p.keep("x")):
        (fault,) = faults_of(change)
        assert "is loaded from a file and can't be changed; q = p.copy() is one that can" in fault[1]


def test_adding_to_a_loaded_one_gives_another_one(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(LOADED)
    p = pipeline.load(tmp_path / "base.yaml", params={"n": 6})
    q = p.add("total", op="sum", input=p["y"])
    q.output("total", to="npy", path="total")
    q.expect("total", approx=30, abs=0)
    assert p.steps == ("x", "y")
    assert len(p.config.outputs) == 1
    assert q.steps == ("x", "y", "total")
    assert (q.name, q.config.params, q.config.root) == ("base", {"n": 6}, str(tmp_path))
    assert pipeline.load(q.to_yaml()) == q
    r = q.run(backend="serial", out=tmp_path, runs=tmp_path / "runs")
    assert r.checks[0].ok
    again = q.add("half", expr="total / 2")
    assert "half" in again.steps
    assert "half" not in q.steps


def test_errors_of_what_is_added_name_both_places() -> None:
    p = pipeline.load("version: 1\nsteps: {x: {op: arange, stop: 4}, y: {expr: x + 1}}\n")
    with pytest.raises(ConfigError, match=r"'y' is here a second time; first at pipeline.yaml:2:\d+"):
        p.add("y", expr="x")
    with pytest.raises(ConfigError, match=r"test_api.py:\d+:\d+: steps.z.input: no step is named 'w'"):
        p.add("z", op="sum", input="w").check()


def test_a_copy_of_a_built_one_grows_by_itself() -> None:
    p = pipeline.Pipeline("p")
    p.step("x", op="arange", stop=4)
    q = p.copy()
    q.step("y", expr="x + 1")
    assert (p.steps, q.steps) == (("x",), ("x", "y"))
    p.step("z", expr="x - 1")
    assert q.steps == ("x", "y")


def test_one_with_faults_can_be_shown() -> None:
    p = pipeline.Pipeline("p")
    p.step("x", op="men")
    assert repr(p) == "<Pipeline 'p': 1 step, outputs: none>"
    assert "there is no op" in p._repr_html_()
    assert hash(p) == hash("p")


def test_a_notebook_shows_a_row_for_each_step() -> None:
    p = pipeline.Pipeline("p", description="<what>")
    x = p.step("x", op="arange", matrix={"var": ["a", "b"]}, stop=4, dim="i")
    p.step("y", expr=f"{x} * 2")
    p.output("y", to="npy", path="y-${var}")
    text = p._repr_html_()
    assert "<p>&lt;what&gt;</p>" in text
    assert text.count("<tr>") == 3
    assert (
        re.sub("<[^>]*>", "|", text)
        .replace("||", "|")
        .replace("||", "|")
        .endswith("|x|op arange|2|y|x * 2|x|2|outputs: y (npy): y-a and 1 more|")
    )
    assert "1 more" in html_table(("a",), [("1",)] * 61)
    plan = p.check()._repr_html_()
    assert ">2 x 1</td>" in plan
    assert "<ul>" not in plan


# ---------------------------------------------------------------------------------------------------------------------
# Options
# ---------------------------------------------------------------------------------------------------------------------

# Where each layer has options of its own: (those of the function below only, those of the method only).
LAYERS = {
    "run": (run_config, {"config", "wall_time"}, {"progress"}),
    "compare": (compare_config, {"config"}, set()),
    "explain": (explain_config, {"config", "spent"}, set()),
    "show": (preview, {"config", "text", "frames", "modules", "change"}, {"reference", "progress"}),
}
# Options of a command that a method has not, or under another name; and those of a method that a command has not.
ONLY_COMMAND = {
    "run": {"dry_run", "report"},
    "compare": {"try_", "no_try", "tables"},
    "explain": set(),
    "show": {"rows"},
}
ONLY_METHOD = {
    "run": {"keep", "options", "listener", "progress"},
    "compare": {"try_seconds", "tell"},
    "explain": {"tell"},
    "show": {"listener", "progress"},
}
OF_EVERY_COMMAND = {"context", "file", "sets", "params", "root", "as_json", "debug"}


def parameters(function: Any, without: set[str]) -> dict[str, tuple[Any, Any]]:
    found = inspect.signature(function).parameters.values()
    return {one.name: (one.kind, one.default) for one in found if one.name not in {*without, "self"}}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_has_the_same_options(name: str) -> None:
    method = getattr(pipeline.Pipeline, name)
    below, only_below, only_method = LAYERS[name]
    assert parameters(method, only_method) == parameters(below, only_below)
    command = getattr(importlib.import_module(f"pipeline.cli.{'run' if name == 'compare' else name}"), name)
    ours, theirs = parameters(method, ONLY_METHOD[name]), parameters(command, ONLY_COMMAND[name] | OF_EVERY_COMMAND)
    assert {name.rstrip("_") for name in ours} == {name.rstrip("_") for name in theirs}


@pytest.mark.parametrize("name", LAYERS)
def test_each_option_has_its_text(name: str) -> None:
    method = getattr(pipeline.Pipeline, name)
    for function in (method, LAYERS[name][0]):
        text = str(function.__doc__).partition("Parameters\n")[2]
        described = {word for line in re.findall(r"^ +([\w, ]+) : ", text, re.MULTILINE) for word in line.split(", ")}
        missing = set(parameters(function, {"config"})) - described
        assert not missing - {"backend", "workers"}, f"{function.__qualname__} does not explain {missing}"
        assert not any(kind is inspect.Parameter.VAR_KEYWORD for kind, _ in parameters(function, set()).values())


def test_functions_of_a_file_have_the_options_of_the_methods() -> None:
    for name in ("check", "build", "run", "compare"):
        function = inspect.signature(getattr(pipeline, name)).parameters
        method = inspect.signature(getattr(pipeline.Pipeline, name)).parameters
        assert next(iter(function)) == "source"
        assert list(function.values())[1:] == list(method.values())[1:]


# ---------------------------------------------------------------------------------------------------------------------
# References
# ---------------------------------------------------------------------------------------------------------------------


def test_references_are_the_text_of_a_file() -> None:
    p = pipeline.Pipeline("p")
    tas = p["tas"]
    assert [str(r) for r in (tas, tas["A1B"], tas["*"], tas["A1B", 0.1], tas[1], tas["01"], tas["a b"], tas[True])] == [
        *("tas", "tas[A1B]", "tas[*]", "tas[A1B, 0.1]", "tas[1]", 'tas["01"]', 'tas["a b"]', "tas[true]")
    ]
    assert str(tas[{"time": slice(0, 40), "y": -3, "fold": "*", "x": slice(None, np.int64(2))}]) == (
        "tas[time=0:40, y=-3, fold=*, x=:2]"
    )
    assert str(p["svd"].u) == str(p["svd.u"]) == "svd.u"
    assert str(p["svd"][{"i": 0}].u["a"]) == "svd.u[i=0, a]"
    assert p["svd.u"] == p["svd"].u != p["svd"]
    assert len({p["a"], p["a"], p["a"]["b"]}) == 2
    assert pickle.loads(pickle.dumps(tas["A1B"])) == tas["A1B"]


@pytest.mark.parametrize(
    "make",
    [
        lambda r: r[0:3],
        lambda r: r[{"time": slice(0, 3, 2)}],
        lambda r: r[{"time": slice("a", "b")}],
        lambda r: r[[1]],
        lambda r: r["a'b\"c"],
        lambda r: StepReference("1x"),
        lambda r: r[{"time": 1}][{"time": 2}],
    ],
)
def test_references_that_no_file_has_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make(StepReference("r"))


def test_a_reference_is_no_sequence() -> None:
    with pytest.raises(TypeError, match="has no length before the run"):
        list(StepReference("r"))
    assert not hasattr(StepReference("r"), "__array__")


# ---------------------------------------------------------------------------------------------------------------------
# Written
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_file_of_the_repository_is_written_and_read_back(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = pipeline.load(path)
    text = p.to_yaml()
    monkeypatch.chdir(tmp_path)
    q = pipeline.load(text)
    assert q == p
    assert (
        repr(q.config)
        == repr(p.config)
        .replace(f"root={p.config.root!r}", f"root={q.config.root!r}")
        .replace(f"source={p.config.source!r}", f"source={q.config.source!r}")
        .replace(f"text={p.config.text!r}", f"text={q.config.text!r}")
        or q.config.steps == p.config.steps
    )
    assert q.to_yaml() == text
    assert max(map(len, text.splitlines())) <= 110


def test_equality_means_what_is_asked_for() -> None:
    def made(text: str = "", **keys: Any) -> pipeline.Pipeline:
        return pipeline.load(f"version: 1\nname: p\nsteps: {{x: {{op: arange, stop: 4}}, y: {{expr: x + 1}}}}\n{text}")

    assert made() == made("# a comment\n")
    for more in ("seed: 1", "params: {a: 1}", "outputs: {y: {to: npy, path: y}}", "checks: [{that: y, equals: 1}]"):
        if "equals" not in more:
            assert made(more) != made()
    assert made("checks: [{that: 'x > 1'}]") != made("checks: [{that: 'x > 2'}]")
    assert made("keep: [x]") != made("keep: [y]")


def test_paths_are_absolute_wherever_the_text_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, base = tmp_path / "a $${b}", tmp_path / "base"
    folder.mkdir()
    base.mkdir()
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "mine.py").write_text("def f(**keywords): ...\n")
    (folder / "points.csv").write_text("a,b\n1,2\n")
    (folder / "paths.txt").write_text("one.csv\n/two.csv\n")
    (base / "base.yaml").write_text(
        'params: {root: data, far: "s3://bucket", both: [x.csv, "${root}/y.csv"]}\n'
        'steps: {b: {op: read_parquet, path: "${root}/b"}, l: {op: read_csv, path: "${both}"}}\n'
    )
    (folder / "file.yaml").write_text(
        "version: 1\ninclude: [../base/base.yaml]\nmodules: [./mine.py]\nparams: {more: 1, "
        'points: "${file:points.csv}"}\n'
        "steps:\n"
        '  c: {op: read_csv, path: ["${root}/${k}.csv", other.csv, "/abs/${k}"], matrix: {k: [u, v]}}\n'
        '  d: {op: read_parquet, path: "${far}/d"}\n'
        '  e: {op: files, path: "*.txt"}\n'
        '  f: {op: read_csv, path: "${file:paths.txt}"}\n'
        '  g: {call: "mine:f", over: "${points}"}\n'
        '  n: {op: read_csv, path: "${root}/${k}", matrix: {k: [u]}, when: "${more} > 1"}\n'
        'checks: [{that: d, equals_csv: "${root}/d.csv"}]\nkeep: [b, l]\n'
    )
    p = pipeline.load(folder / "file.yaml")
    monkeypatch.chdir(base)
    q = pipeline.load(p.to_yaml())
    assert q == p
    assert q.config.steps["c[u]"].parameters.path == [f"{folder}/data/u.csv", f"{folder}/other.csv", "/abs/u"]
    assert q.config.steps["l"].parameters.path == [f"{base}/x.csv", f"{base}/data/y.csv"]
    assert q.config.steps["d"].parameters.path == "s3://bucket/d"
    assert q.config.checks[0].equals_csv == f"{folder}/data/d.csv"
    assert q.config.params["root"] == "data"
    assert q.config.shipped == (str(folder / "mine.py"),)
    assert pipeline.load(p.to_yaml(), params={"root": "else"}).config.steps["b"].parameters.path == f"{base}/else/b"


def test_programs_and_their_folders_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
        version: 1
        params: {tool: [./run.sh, -v], dir: place}
        steps:
          a: {command: [echo, ./x]}
          b: {command: [bin/tool, "${a.stdout}"], cwd: "${dir}/deep"}
          c: {command: ["${tool}", "-x"]}
          d: {command: ["${k}/x"], matrix: {k: [p, q]}, cwd: /abs}
          e: {command: ["${a.stdout}/x"], env: {A: "${b.stdout}"}}
          f: {command: [cat, "${y}"], over: {y: [1, 2]}, stdin: a.stdout, files: {png: "out/x.png"}, check: false}
    """
    p = pipeline.load(textwrap.dedent(text), root=tmp_path)
    monkeypatch.chdir("/")
    q = pipeline.load(p.to_yaml())
    assert q == p
    assert [step.function for step in q.config.steps.values()][:3] == ["echo", "tool", "run.sh"]
    commands = {name: step.command for name, step in q.config.steps.items()}
    assert commands["a"].argv == ("echo", "./x")
    assert commands["b"].argv[0] == f"{tmp_path}/bin/tool"
    assert commands["b"].cwd == f"{tmp_path}/place/deep"
    assert commands["c"].argv == (f"{tmp_path}/run.sh", "-v", "-x")
    assert commands["d[q]"].argv == (f"{tmp_path}/q/x",)
    assert commands["e"] == p.config.steps["e"].command


def test_commands_take_references() -> None:
    p = pipeline.Pipeline("p")
    a = p.step("a", command=["echo", "x"], over={"i": range(2)})
    b = p.step("b", command=["ls"])
    p.step("d", command=["cat"], over={"text": a.stdout}, stdin="text")
    p.step("c", command=["cat", b.stdout, f"--n=${{{b.stdout}}}"], env={"A": b.stdout}, stdin=b.stdout)
    made = p.config.steps["c"]
    assert made.inputs["stdin"][0].part == "stdout"
    assert [str(getattr(one, "text", one)) for one in made.command.argv[:2]] == ["cat", "b.stdout"]
    assert made.command.env["A"].text == "b.stdout"
    assert pipeline.load(p.to_yaml()) == p


def test_odd_names_of_folders_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a ${b} 'c\" #d"
    folder.mkdir()
    (folder / "f.yaml").write_text('version: 1\nparams: {r: x}\nsteps: {b: {op: read_csv, path: "${r}/b"}}\n')
    p = pipeline.load(folder / "f.yaml")
    assert p.config.steps["b"].parameters.path == f"{folder}/x/b"
    assert pipeline.load(p.to_yaml()) == p
    (folder / "p.csv").write_text("a\n1\n")
    (folder / "g.yaml").write_text('version: 1\nparams: {r: "${file:p.csv}"}\nsteps: {b: {op: arange, stop: 2}}\n')
    assert "has braces in its name" in faults_of(pipeline.load(folder / "g.yaml").to_yaml)[0][1]


def test_a_path_relative_in_one_instance_only_cannot_be_written(tmp_path: Path) -> None:
    p = pipeline.load(
        "version: 1\nsteps: {b: {op: from_zarr, path: '${r}/b', matrix: {r: [x, y]}}}\n".replace("y]", "'/y']"),
        root=tmp_path,
    )
    assert "absolute in one instance and relative in another" in faults_of(p.to_yaml)[0][1]


def test_changed_params_are_written_and_secrets_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter22")
    monkeypatch.setenv("MY_HOME", "x")
    (tmp_path / "f.yaml").write_text(
        'version: 1\nparams: {a: {b: 1, c: "${secret:MY_SECRET}"}, home: "${env:MY_HOME:-y}"}\nmodules: [m]\n'
        'steps: {s: {call: "m:f", args: {a: "${a}", t: "k ${secret:MY_SECRET} $${x} ${home}"}}}\n'
        'storage: {s3: {secret: "${secret:MY_SECRET}"}}\n'
    )
    p = pipeline.load(tmp_path / "f.yaml", params={"a.b": 7})
    text = p.to_yaml()
    assert "hunter22" not in text
    assert "${secret:MY_SECRET}" in text
    assert "${env:MY_HOME:-y}" in text
    q = pipeline.load(text)
    assert q == p
    assert q.config.params["a"]["b"] == 7
    assert q.config.steps["s"].args["t"] == "k hunter22 ${x} x"
    assert q.config.secrets == {"hunter22"}


def test_what_replaces_a_param_keeps_its_type() -> None:
    text = "version: 1\nparams: {n: 1, x: {y: 2}, l: [1], d: a}\nsteps: {s: {op: arange, stop: '${n}'}}\n"
    given = {"n": np.int64(4), "x.y": float("-inf"), "l": (np.float32(0.5), None), "d": datetime.date(2020, 1, 2)}
    made = pipeline.load(text, params=given)
    assert dict(made.config.params) == {"n": 4, "x": {"y": -math.inf}, "l": [0.5, None], "d": "2020-01-02"}
    assert made.check().rows[0].shape == "dim_0: 4"
    with pytest.raises(ConfigError, match=r"params\['m'\]: the file has no param 'm'"):
        pipeline.load(text, params={"m": 1})
    with pytest.raises(ConfigError, match=r"params\['n'\]: got <object"):
        pipeline.load(text, params={"n": object()})


def test_a_run_is_asked_with_what_a_step_gave(tmp_path: Path) -> None:
    p = pipeline.Pipeline("asked", root=tmp_path)
    x = p.step("x", op="arange", stop=3, dim="i", matrix={"k": ["a b", "01"]})
    s = p.step("s", op="svd", input=p.step("ones", op="ones", shape={"t": 2, "y": 2}))
    p.keep(x, s)
    r = p.run(backend="serial", out=tmp_path, runs=tmp_path / "runs")
    assert list(r) == ["x[a b]", "x[01]", "s"]
    assert all(r[x[label]].values.tolist() == [0, 1, 2] for label in ("a b", "01"))
    assert r[s.u].dims == ("t", "component")
    assert x["c"] not in r


TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "~",
        "null",
        "true",
        "1e5",
        "0o7",
        "01",
        ".5",
        "<<",
        "- a",
        "a: b",
        "a #b",
        "yes",
        "é…\u2028\x1b\ufeff",
        "x " * 90,
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4))


def as_text(value: Any, path: str) -> Any:
    return value


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=5))
@SETTINGS
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    tree = tree_of(value, Location(), "", convert=as_text)
    for text in (yaml_text(tree), yaml_text(tree, origin=lambda node: f"# {type(node.value).__name__}")):
        assert repr(python_value(parse(text, "f.yaml", ""))) == repr(python_value(tree))


@st.composite
def built(draw: st.DrawFn) -> pipeline.Pipeline:
    """A pipeline of sources, expressions, reductions and calls, with params, copies, outputs and checks."""
    literal = VALUES.map(lambda value: _without_holes(value))
    root = draw(st.sampled_from([".", "/data/x y", "relative/$${r}"]))
    p = pipeline.Pipeline(
        draw(TEXTS.filter(bool)),
        params={
            "n": draw(st.integers(1, 9)),
            "root": draw(st.sampled_from(["d", "/d", "s3://d"])),
            "any": draw(literal),
        },
        seed=draw(st.integers(0, 2**40)),
        modules=["m"],
        description=draw(TEXTS),
        root=root,
    )
    p.step("src", op="read_csv", path=draw(st.sampled_from(["${root}/x.csv", "x*.csv", ["a.csv", "${root}/b"]])))
    known: list[StepReference] = []
    for i in range(draw(st.integers(1, 5))):
        keys: dict[str, Any] = {"matrix": {f"k{i}": draw(st.sampled_from([[1, 2], ["a"], ["01", 1.5]]))}}
        keys = keys if draw(st.booleans()) else {}
        given_ = draw(st.sampled_from(known)) if known else None
        kind = draw(st.sampled_from(["source", "expr", "op", "call"])) if known else "source"
        if kind == "source":
            keys |= {"op": "arange", "stop": "${n}", "dim": "i", "chunks": draw(st.integers(1, 4))}
        elif kind == "expr":
            keys |= {"expr": f"{given_} * {draw(st.integers(-3, 3))} + ${{n}}"}
        elif kind == "op":
            keys |= {"op": "rechunk", "input": given_, "chunks": {"i": draw(st.integers(1, 3))}}
        else:
            keys |= {
                "call": "m:f",
                "args": {"x": given_, "more": draw(literal)},
                "over": {"o": draw(st.lists(literal, max_size=3))},
            }
        reference = p.step(f"s{i}", **keys)
        if kind == "call":
            p.output(f"s{i}", to="pickle", path=f"s{i}-${{key}}") if not _has_copies(p, f"s{i}") else p.keep(reference)
        else:
            known.append(reference)
            p.keep(reference)
    if draw(st.booleans()) and not _has_copies(p, str(known[0])):
        p.expect(f"{known[0]} >= 0")
    return p


def _has_copies(p: pipeline.Pipeline, step: str) -> bool:
    return any(s.step == step and s.matrix for s in p.config.steps.values())


def _without_holes(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "s")
    if isinstance(value, dict):
        return {key: _without_holes(one) for key, one in value.items()}
    return [_without_holes(one) for one in value] if isinstance(value, list) else value


@given(built())
@SETTINGS
def test_load_of_what_is_written_is_what_was_built(p: pipeline.Pipeline) -> None:
    text = p.to_yaml()
    q = pipeline.load(text, root=os.sep)
    assert q == p
    assert q.to_yaml() == text
    assert repr(q.config.params) == repr(p.config.params)  # types, too, and the order of maps


def test_the_example_of_the_docstring_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import doctest

    monkeypatch.chdir(tmp_path)
    for module in (api, sys.modules["pipeline.config.from_python"], sys.modules["pipeline.config.yaml_writer"]):
        done = doctest.testmod(module)
        assert done.attempted > 1
        assert not done.failed
