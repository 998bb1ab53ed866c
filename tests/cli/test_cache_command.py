"""``pipeline cache``: what is kept, by step, and what is removed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.worker.cache_entries import Store

DAY = 86_400


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The cache beside the runs of the current folder: three values of ``fit``, one of ``regional_means``."""
    monkeypatch.chdir(tmp_path)
    made = Store(str(tmp_path / "runs" / ".cache"))
    made.prepare()
    for i in range(3):
        made.keep(f"{i:032x}", np.full(100_000, i), seconds=40.0, step=f"fit[alpha={i % 2}]", pipeline="models")
    key = "ff" * 16
    made.keep(key, [1, 2], seconds=4000.0, step="regional_means", pipeline="climate/monthly")
    made.link("fe" * 16, key)
    for path, age in ((made.path(f"{0:032x}"), 40 * DAY), (made.path(key), 3 * 3600 + 60)):
        os.utime(path, (time.time() - age,) * 2)
    return made


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    code = main(["cache", *argv])
    found = capsys.readouterr()
    assert code == 0, found.err
    return found.out


def test_what_is_kept_is_listed_by_step(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "ls")
    assert max(map(len, text.splitlines())) <= 80 + len(store.folder)
    rows = [line.split() for line in text.splitlines()]
    (fit,) = [row for row in rows if row[:1] == ["fit"]]
    assert fit[:7] == ["fit", "models", "3", "2.4", "MB", "2", "min"]
    (means,) = [row for row in rows if row[:1] == ["regional_means"]]
    assert means[1:3] == ["climate/monthly", "1"]
    assert " ".join(means[5:9]) == "1 h 07 min"
    assert f"4 values, 2.4 MB in {store.folder}" in text


def test_json_has_every_instance(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads(printed(capsys, "ls", "--json"))
    assert (result["event"], result["ok"], result["folder"], result["entries"]) == ("result", True, store.folder, 4)
    steps = {step["step"]: step for step in result["steps"]}
    assert list(steps) == ["regional_means", "fit[alpha=0]", "fit[alpha=1]"]
    assert (steps["fit[alpha=0]"]["entries"], steps["fit[alpha=0]"]["seconds"]) == (2, 80.0)
    assert sum(step["bytes"] for step in steps.values()) == result["bytes"]


def test_info_has_the_limits_of_the_file(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.yaml").write_text(
        "version: 1\ncache: {dir: runs/.cache, bytes: 20GB, entries: 1000, age: 30d}\n"
        "steps:\n  x: {op: arange, stop: 3, dim: i}\n"
    )
    text = printed(capsys, "info", "p.yaml")
    assert f"folder   {store.folder}" in text
    assert "values   4 values, 2.4 MB, computed in 1 h 09 min" in text
    assert "limits   20.0 GB, 1,000 values, unused for 30 days" in text
    assert json.loads(printed(capsys, "info", "p.yaml", "--json").splitlines()[-1])["limits"] == {
        "bytes": 20 * 10**9,
        "entries": 1000,
        "age": 30 * DAY,
    }
    assert "limits  " not in printed(capsys, "info", store.folder)


def test_values_of_a_step_are_removed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "rm", "--step", "fit[alpha=0]", "--older", "30d").startswith("removed 1 value, 800.")
    assert printed(capsys, "rm", "--step", "fit", "--older", "1h").startswith("removed 0 values, 0 B")
    assert printed(capsys, "rm", "--step", "fit").startswith("removed 2 values, 1.6 MB")
    assert json.loads(printed(capsys, "rm", "--pipeline", "climate/monthly", "--json"))["entries"] == 1
    assert list(store.entries()) == []
    assert printed(capsys, "ls") == f"no values are kept in {store.folder}\n"


def test_all_values_are_removed_and_nothing_else(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    notes = Path(store.folder, "notes.txt")
    notes.write_text("mine")
    assert printed(capsys, "rm", "--all", store.folder).startswith("removed 4 values, 2.4 MB")
    assert list(store.entries()) == []
    assert notes.read_text() == "mine"


def test_files_that_can_not_be_used_are_counted_and_removed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    Path(store.path(f"{1:032x}")).write_bytes(b"x")
    text = printed(capsys, "ls")
    assert "3 values" in text
    assert "1 file can't be used (1 B): pipeline cache rm --damaged" in text
    assert printed(capsys, "rm", "--damaged").startswith("removed 1 value, 1 B")
    assert len(list(store.entries())) == 4


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["rm"], "cache rm: what? Write --step NAME, --pipeline NAME, --older 30d, --damaged or --all"),
        (["rm", "--all", "--step", "fit"], "cache rm: what?"),
        (["rm", "--step", "fot"], "--step fot: nothing is kept of such a step in"),
        (["rm", "--older", "soon"], "--older soon: write a number with s, min, h or d"),
        (["ls", "none.yaml"], "none.yaml: no such file"),
    ],
)
def test_what_can_not_be_done_is_refused(
    store: Store, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert main(["cache", *argv]) == 2
    assert message in capsys.readouterr().err
    assert len(list(store.entries())) == 5


def test_a_folder_of_others_is_refused(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    os.chmod(store.folder, 0o777)
    for command in (["ls"], ["info"], ["rm", "--all"]):
        assert main(["cache", *command]) == 2
        assert "may be written by other users" in capsys.readouterr().err
