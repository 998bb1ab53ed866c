"""``pipeline report``: a report drawn again from its run folder."""

from __future__ import annotations

import json
import shutil

import pytest
from traces import chained

from pipeline import cli
from pipeline.runs.history.find import find


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The run folder of a real run."""
    top = tmp_path_factory.mktemp("made")
    (top / "sums.yaml").write_text(
        "version: 1\nsteps: {x: {op: arange, stop: 8, chunks: 4}, total: {op: sum, input: x}}\n"
        "outputs: {total: {to: npy, path: total.npy}}\n"
    )
    options = ["--backend", "serial", "--out", str(top), "--runs", str(top / "runs")]
    assert cli.main(["run", str(top / "sums.yaml"), *options]) == 0
    return find("sums", top / "runs").folder


@pytest.fixture
def real(made, tmp_path):
    """A copy of it, without what was drawn."""
    folder = shutil.copytree(made, tmp_path / "runs" / "sums" / made.name)
    (folder / "report.html").unlink(missing_ok=True)
    (folder / "perfetto.json").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def drawn(made, tmp_path_factory):
    """A copy of it with what is drawn."""
    folder = shutil.copytree(made, tmp_path_factory.mktemp("drawn") / "runs" / "sums" / made.name)
    assert cli.main(["report", str(folder)]) == 0
    return folder


def test_a_report_is_drawn_again_with_a_timeline_for_a_trace(real, capsys):
    assert cli.main(["report", "sums", "--runs", str(real.parents[1]), "--open", "no"]) == 0
    assert capsys.readouterr().out.split("\n") == [str(real / "perfetto.json"), str(real / "report.html"), ""]
    assert "<html" in (real / "report.html").read_text()
    names = {event["name"] for event in json.loads((real / "perfetto.json").read_text())["traceEvents"]}
    assert "total" in names
    assert cli.main(["report", str(real), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["report"], told["timelines"]) == (str(real / "report.html"), [str(real / "perfetto.json")])
    assert told["notes"] == []


@pytest.mark.parametrize("name", ["../../../x/trace.parquet", "/etc/passwd", "", "gone/trace.parquet", "broken"])
def test_a_trace_elsewhere_gone_or_broken_costs_its_timeline(drawn, tmp_path, capsys, name):
    real = shutil.copytree(drawn, tmp_path / "runs" / "sums" / drawn.name)
    capsys.readouterr()
    (real / "run.json").unlink()  # as in the folder of an earlier version, whose report.json is all there is
    (real / "perfetto.json").unlink()
    told = json.loads((real / "report.json").read_text())
    told["accounts"][0]["trace"] = name
    (real / "report.json").write_text(json.dumps(told))
    (real / "broken").write_bytes(b"PAR1")
    assert cli.main(["report", str(real)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{real / 'report.html'}\n"
    assert said.err.startswith("pipeline: warning: no timeline: ")


def test_a_report_is_opened_where_that_is_asked_for(real, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert cli.main(["report", str(real), "--open", "maybe"]) == 2
    assert cli.main(["report", str(real)]) == 0
    assert not opened
    assert cli.main(["report", str(real), "--open", "yes"]) == 0
    assert opened == [(real / "report.html").as_uri()]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"config.json": "{}", "failure.json": '{"exit_code": 3, "message": "in.csv: no such file"}'},
         "there is nothing to make a report from: the run failed: in.csv: no such file"),
        ({"config.json": "{}"}, "make a report from: it has not ended: it still runs, or was killed"),
        ({"graph": ""}, "make a report from: it has not ended: it still runs, or was killed"),
        ({"config.json": "{}", "trace.parquet": None}, "made by a version that wrote none (its trace.parquet is there"),
        ({"notes.txt": ""}, "not a run folder: it has none of run.json, report.json"),
    ],
)  # fmt: skip
def test_a_folder_without_a_report_is_exit_2_with_the_reason(tmp_path, capsys, files, said):
    folder = tmp_path / "month" / "2026-01-31T10-00-00Z"
    folder.mkdir(parents=True)
    for name, content in files.items():
        if content is None:
            chained({"fit-0": 1.0}).save(folder / name)
        else:
            (folder / name).write_text(content)
    assert cli.main(["report", str(folder)]) == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
