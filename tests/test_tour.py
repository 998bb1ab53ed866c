"""The tour: each file is a claim that the page explains, and the program tries it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.loader import load
from pipeline.errors import ConfigError
from pipeline.experiments import tour as tours
from pipeline.experiments.comparison.claims import FALSE, NOT_SHOWN, TRUE

PAGE = (Path(__file__).parents[1] / "docs" / "threads-or-processes.md").read_text()


def events(*arguments: str, folder: Path, code: int = 0) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "pipeline", "tour", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_page_shows_the_command_of_every_claim() -> None:
    named = {name for line in re.findall(r"^pipeline tour (.+)$", PAGE, re.MULTILINE) for name in line.split()}
    assert named == set(tours.claims())


def test_every_file_says_what_it_claims_and_how_it_is_tried() -> None:
    for path in tours.claims().values():
        config = load(path)
        assert config.description.endswith(".")
        assert bool(config.compare.get("claims")) != bool(config.checks)


def test_checks_of_results_are_tried_by_a_run(tmp_path: Path) -> None:
    fork, printing, result = events("fork-and-locks", "printing", folder=tmp_path)
    assert (fork["verdict"], fork["checks"]) == (TRUE, ["gets_lock[fork] == 0", "gets_lock[spawn] == 1"])
    assert (printing["verdict"], printing["checks"]) == (TRUE, ["torn[false] > 0", "torn[true] == 0"])
    assert result["claims"] == {"fork-and-locks": TRUE, "printing": TRUE}


def test_claims_of_speed_are_tried_by_a_comparison(tmp_path: Path) -> None:
    stop, _ = events("threads-on-python", "--within", "1s", folder=tmp_path)  # one round, which shows nothing
    assert stop["verdict"] == NOT_SHOWN
    assert [one["what"] for one in stop["judged"]] == ["time of serial / threads", "cores of threads"]
    (why,) = stop["why"]
    assert re.match(r"threads: the time of its \d+ workers? was \w+ .*\d+%", why)
    assert "Use " not in why  # no advice for what is slow on purpose
    assert {path.parent.name for path in Path(stop["folder"]).glob("*/trace.parquet")} == {"serial-1", "threads-1"}


def test_a_claim_that_is_false_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "01-small.yaml").write_text(
        "version: 1\ndescription: Three is more than four.\nsteps: {x: {op: arange, stop: 3, dim: a}, "
        "y: {op: max, input: x}}\nchecks: [{that: y > 4}]\n"
    )
    monkeypatch.setattr(tours, "claims", lambda: {"small": tmp_path / "01-small.yaml"})
    (stop,) = tours.tour(runs=tmp_path / "runs")
    assert (stop.verdict, stop.ran) == (FALSE, True)
    assert "y > 4: got False" in stop.checks[0]


def test_an_unknown_claim_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'printing'"):
        tours.tour(["prnting"])


@pytest.mark.slow
def test_every_claim_is_answered_in_time(tmp_path: Path) -> None:
    *stops, result = events("--within", "3min", folder=tmp_path)
    assert set(result["claims"]) == set(tours.claims())
    assert {stop["verdict"] for stop in stops} <= {TRUE, FALSE, NOT_SHOWN}
