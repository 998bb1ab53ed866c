"""A secret is in nothing that a run prints or writes, whatever the back end and however the run ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline import cli
from pipeline.errors import ConfigError, TaskError

FRAGMENT = "s3cr3t"
SECRET = f"""{FRAGMENT}"&'\\w0rd {FRAGMENT}"""
"""Nothing but its form as it is would be found by a plain replacement: repr, JSON, HTML and URLs change it."""

MODULE = """
import json, logging, sys
def use(n, token, fail):
    print("with", token, repr(token), json.dumps(token))
    print(token.encode(), file=sys.stderr)
    logging.getLogger("mine").warning("logged %s", token)
    if fail and n == 1:
        try:
            {}[token]
        except KeyError as error:
            raise ValueError("not with " + token) from error
    return {"n": n}
"""
FILE = """version: 1
modules: [./mine.py]
params: {token: "${secret:PART_${part}}", part: ONE, fail: false}
steps:
  f: {call: "mine:use", over: {n: [1, 2]}, args: {token: "${token}", fail: "${fail}"}}
outputs: {f: {to: json, path: "out/${key}.json"}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PART_ONE", SECRET)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "a.yaml").write_text(FILE)
    return tmp_path


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the content of every file, Parquet decompressed."""
    for path in folder.rglob("*"):
        if path.is_file():
            is_table = path.suffix == ".parquet"
            text = str(pq.read_table(path).to_pydict()) if is_table else path.read_text(errors="replace")
            yield str(path.relative_to(folder)), text


def leaks(folder: Path, printed: str) -> list[str]:
    """Return the names of the files, or "printed", where the secret is; and of files named by it."""
    found = [name for name, text in texts(folder) if FRAGMENT in text or FRAGMENT in name]
    return [*found, *(line for line in printed.splitlines() if FRAGMENT in line)]


@pytest.mark.parametrize("backend", ["serial", "processes", "dask"])
def test_no_byte_of_a_run_holds_the_secret(here: Path, capfd: pytest.CaptureFixture[str], backend: str) -> None:
    run = ["run", "a.yaml", "--backend", backend, "--workers", "1", "--report"]
    assert cli.main(run) == 0
    assert cli.main([*run, "--debug", "--set", "fail=true"]) == 1
    printed = "".join(capfd.readouterr())
    assert "with ***" in printed
    assert "not with ***" in printed
    assert "Traceback" in printed
    assert leaks(here, printed) == []


def test_the_library_raises_it_masked(here: Path) -> None:
    with pytest.raises(TaskError) as caught:
        pipeline.load(here / "a.yaml", params={"fail": True}).run(backend="serial", listener=lambda event: None)
    assert "not with ***" in str(caught.value)
    assert FRAGMENT not in str(caught.value) + repr(caught.value) + caught.value.traceback + str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("n: [1, 2]", 'n: ["${token}"]', "a.yaml:5:35: steps.f.over.n: got a secret among a list of 1"),
        ("{n: [1, 2]}", '[{n: ["a ${token}"]}]', "a.yaml:5:31: steps.f.over: got a secret among a list of 1"),
        ("args:", 'matrix: {m: [1, "${token}"]}, args:', "steps.f.matrix.m: got a secret, '${token}'"),
        ("out/${key}", "${token}/${key}", "outputs.f.path: got '${token}/${key}.json'; a secret can't"),
        ('.json"', '.json", attrs: {by: ["${token}"]}', "outputs.f.attrs: got a secret"),
        ("over", 'batch: "${token}", over', "steps.f.batch: got '${token}', which is '${secret:PART_ONE}'"),
    ],
)
def test_a_secret_that_would_be_shown_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, place: str
) -> None:
    (here / "a.yaml").write_text(FILE.replace(before, after))
    assert cli.main(["check", "a.yaml", "--debug"]) == 2
    printed = "".join(capsys.readouterr())
    assert place in printed
    assert FRAGMENT not in printed
    with pytest.raises(ConfigError) as caught:
        pipeline.load(here / "a.yaml")
    assert FRAGMENT not in str(caught.value)


def test_a_row_that_is_a_secret_names_no_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the values of a column are is known in the run only."""
    (here / "mine.py").write_text("def use(n, token):\n    return {'who': token}\n")
    (here / "a.yaml").write_text(
        "version: 1\nmodules: [./mine.py]\nsteps:\n"
        '  a: {call: "mine:use", over: {n: [1]}, args: {token: "${secret:PART_ONE}"}}\n'
        "  t: {op: to_frame, input: a, columns: {who: string}}\n"
        "outputs: {t: {to: parquet, path: out, partition_by: [who]}}\n"
    )
    assert cli.main(["run", "a.yaml", "--backend", "serial"]) == 5
    printed = "".join(capsys.readouterr())
    assert "output 't': the name of the file 'out/who=***/" in printed
    assert leaks(here, printed) == []
