"""``check`` finds functions that are not there without running the user's code; ``--import`` asks another process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.worker import import_probe

MINE = """
from pathlib import Path
import functools, os, sys
Path(__file__).with_name("ran").touch()
print("printed by the module")
def plain(a): return a
def decorator(f):
    @functools.wraps(f)
    def inner(*args, **keywords): return f(*args, **keywords)
    return inner
@decorator
def wrapped(a, b=1): return a
constant = 3
"""
FILE = """version: 1
modules: [./mine.py, math]
steps:
  x: {call: "mine:wrapped", args: {a: 1}}
  y: {call: "math:sqrt", input: x}
"""

Check = Callable[..., str]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Check:
    """Write a file with some texts replaced by others, check it, and return what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(import_probe.look_at, "__kwdefaults__", {"limit": 600.0})
    (tmp_path / "mine.py").write_text(MINE)

    def run(*options: str, code: int = 0, **changes: str) -> str:
        text = FILE
        for before, after in changes.items():
            assert before in text
            text = text.replace(before, after)
        (tmp_path / "a.yaml").write_text(text)
        assert cli.main(["check", "a.yaml", *options]) == code
        return "".join(capfd.readouterr())

    return run


def test_check_runs_nothing_of_the_user(check: Check, tmp_path: Path) -> None:
    assert "printed" not in check()
    assert "mine:wrapped needs" not in check(**{"args: {a: 1}": "args: {}"})  # what reading can't tell is no error
    assert "'mine' has no function 'warpped'; did you mean 'wrapped'?" in check(code=2, wrapped="warpped")
    assert not (tmp_path / "ran").exists()


def test_run_refuses_what_check_does(check: Check, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check(code=2, wrapped="warpped")
    assert cli.main(["run", "a.yaml", "--backend", "serial"]) == 2
    assert "a.yaml:4:13: steps.x.call: 'mine' has no function 'warpped'" in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_importing_tells_the_rest_at_once(check: Check, tmp_path: Path) -> None:
    assert "printed" not in check("--import")
    assert (tmp_path / "ran").exists()
    printed = check(
        "--import",
        code=2,
        **{"{a: 1}": "{c: 1}", "math:sqrt": "math:sqrd", "y: {": 'z: {call: "mine:constant"}\n  y: {'},
    )
    assert "a.yaml:4:36: steps.x.args.c: mine:wrapped takes no argument 'c'; it takes a, b" in printed
    assert "steps.z.call: 'mine:constant' is no function, but int" in printed
    assert "steps.y.call: 'math' has no function 'sqrd'; did you mean 'sqrt'?" in printed
    assert "3 errors" in printed


def test_a_misspelt_installed_module_is_one_error(check: Check) -> None:
    printed = check("--import", code=2, **{"math]": "jsonn]", "math:sqrt": "jsonn:loads"})
    assert printed.count("error") == 1
    assert "a.yaml:2:22: modules[1]: module 'jsonn' was not found; install it; did you mean 'json'?" in printed


@pytest.mark.parametrize(
    ("limit", "code", "said"),
    [
        (1.0, "import time\ntime.sleep(1000)", "importing took longer than 1 s"),
        (600.0, "import os\nos._exit(7)", "importing ended the process (7)"),
    ],
)
def test_a_module_that_does_not_come_back(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float, code: str, said: str
) -> None:
    (tmp_path / "mine.py").write_text(f"wrapped = 1\n{code}\n")
    monkeypatch.setattr(import_probe.look_at, "__kwdefaults__", {"limit": limit})
    printed = check("--import", **{"[./mine.py, math]": "[./mine.py, json]", "math:sqrt": "json:loads"})
    assert f"warning: 'mine:wrapped' could not be looked at: {said}" in printed


def test_a_module_that_can_not_be_imported(check: Check, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("wrapped = 1 / 0\n")
    assert "'mine' can't be imported: ZeroDivisionError: division by zero" in check("--import", code=2)
