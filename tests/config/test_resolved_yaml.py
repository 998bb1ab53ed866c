"""``pipeline check --resolved``: the file as it is run, and where each value comes from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.cli import main
from pipeline.config.loader import load, loads
from pipeline.config.resolved_yaml import resolved_text

CONFIGS = sorted(Path(__file__).parents[2].joinpath("configs").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that includes another, a params file, a secret."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.yaml").write_text(
        "params:\n  root: data\n  n: 4\n  far: {deep: [1, 2], name: x}\nsteps:\n"
        '  a: {op: read_csv, path: "${root}/a.csv"}\n'
        "  b: {op: arange, stop: 1}\n"
    )
    (tmp_path / "more.yaml").write_text("far:\n  name: y\n")
    (tmp_path / "file.yaml").write_text(
        "version: 1\ninclude: [base/base.yaml]\nmodules: [m]\n"
        "params: {root: other, t: it's, home: '${env:MY_HOME:-h}'}\n"
        "steps:\n"
        '  b: {op: arange, stop: "${n}", matrix: {k: [1, 2]}}\n'
        '  c: {expr: "where(b > ${n}, -${n}, 0)"}\n'
        "  d: {op: filter, input: a, where: \"t == ${t} and u in ${far.deep} and 'n' != v\"}\n"
        '  e: {call: "m:f", over: {n: ["${n}", 5]}, args: {m: "${n}", k: "${b[1]}", s: "${secret:MY_SECRET}"}}\n'
        '  f: {call: "m:f", args: {text: "n is ${n}, $${x} ${home}, ${b[1]}"}}\n'
        'outputs: {b: {to: npy, path: "b-${k}-${n}"}}\n'
        "storage: {s3: {key: hunter33}}\n"
    )
    monkeypatch.setenv("MY_SECRET", "hunter22")
    monkeypatch.delenv("MY_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines_of(text: str) -> dict[str, str]:
    """Return the comment beside each key that has its own."""
    found = {}
    for line in text.splitlines():
        code, _, comment = line.partition("  # ")
        found.setdefault(code.strip().removeprefix("- "), comment)
    return found


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_is_a_file_that_asks_for_the_same(path: Path) -> None:
    config = load(path)
    text = resolved_text(config)
    assert pipeline.load(text).config == config
    here = str(path.parents[1])  # input paths are absolute
    assert all(len(line.replace(here, "")) <= 115 for line in text.splitlines())
    assert "${root}" not in text


def test_included_set_and_interpolated_values_have_their_origin(folder: Path) -> None:
    config = load("file.yaml", sets={"n": "7"}, params_files=["more.yaml"])
    told = lines_of(resolved_text(config))
    assert told["version: 1"] == "file.yaml:1"
    assert told["name: file"] == "default: the name of the file"
    assert told["root: other"] == "file.yaml:4"
    assert told["n: 7"] == "--set"
    assert told["name: y"] == "more.yaml:2"
    assert told["deep: [1, 2]"] == "base.yaml:4"
    assert told["home: h"] == "file.yaml:4; env MY_HOME"
    assert told["stop: 7"] == "file.yaml:6; n: --set"
    assert told["op: read_csv"] == "base.yaml:6"
    text = resolved_text(config)
    assert (
        f"    # base.yaml:6; root: file.yaml:4\n    path: {folder}/base/other/a.csv\n" in text
    )  # too long for its line
    assert told['path: "b-${k}-7"'] == "file.yaml:11; n: --set"


def test_placeholders_unknown_before_the_run_are_kept(folder: Path) -> None:
    config = load("file.yaml", sets={"n": "-2"})
    text = resolved_text(config)
    assert "n: [-2, 5]" in text
    assert '"${b[1]}"' in text
    assert "where(b > (-2), -(-2), 0)" in text
    assert "t == 'it\\\\'s' and u in [1, 2] and 'n' != v" in " ".join(text.split())
    assert 'text: "n is -2, $${x} h, ${b[1]}"' in text
    again = loads(text, root="/").all_steps
    for name in ("a", "b[2]", "c[1]", "d"):
        assert (again[name].parameters, again[name].expression) == (
            *(config.all_steps[name].parameters, config.all_steps[name].expression),
        )
    assert again["e"].over == config.all_steps["e"].over


def test_secrets_and_storage_options_are_hidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", 'hunter"\\22')
    text = resolved_text(load("file.yaml", sets={"t": "'a hunter\"\\22 b'"}))
    assert "hunter" not in text
    assert 's: "${secret:MY_SECRET}"' in text
    assert 'key: "***"' in text
    assert 't: "a *** b"' in text


def test_long_lists_are_left_among_the_params(folder: Path) -> None:
    (folder / "points.txt").write_text("\n".join(map(str, range(100))))
    text = resolved_text(
        loads(
            'version: 1\nmodules: [m]\nparams: {p: "${file:points.txt}", q: {range: 3}, short: "${file:few.txt}"}\n'
            'steps: {a: {call: "m:f", over: {x: "${p}", y: "${q}", z: "${short}"}}}\n',
            root=_with_few(folder),
        )
    )
    assert f'p: "${{file:{folder}/points.txt}}"' in text
    assert f'x: "${{file:{folder}/points.txt}}"' in text
    assert "z: [a, b]" in text
    assert "y: {range: 3}" in text


def _with_few(folder: Path) -> Path:
    (folder / "few.txt").write_text("a\nb\n")
    return folder


def test_a_pipeline_built_in_python_has_lines_of_the_script() -> None:
    p = pipeline.Pipeline("p", params={"n": 3})
    p.step("x", op="arange", stop="${n}")
    told = lines_of(resolved_text(p.config))
    assert re.fullmatch(r"test_resolved_yaml.py:\d+; n: line \d+", told["stop: 3"])


def test_files_of_the_same_name_are_distinguished(folder: Path) -> None:
    (folder / "base" / "file.yaml").write_text("params: {n: 1}\nsteps: {x: {op: arange, stop: 3}}\n")
    (folder / "top.yaml").write_text("version: 1\ninclude: [base/file.yaml, file.yaml]\nkeep: [x]\n")
    text = resolved_text(load("top.yaml"))
    assert "# base/file.yaml:2" in text
    assert "# file.yaml:6" in text
    assert "# base.yaml is base/base.yaml\n" in text


def test_the_command_prints_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "file.yaml", "--resolved", "--set", "n=9"]) == 0
    out = capsys.readouterr().out
    assert out == resolved_text(load("file.yaml", sets={"n": "9"}))
    assert main(["check", "file.yaml", "--resolved", "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["resolved"] == resolved_text(load("file.yaml"))
    assert main(["check", "file.yaml", "--resolved", "--set", "m=9"]) == 2
