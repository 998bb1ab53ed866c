"""docs/recipes.md: each recipe is run, with what it prints."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from pages import Block, apply, blocks
from schedulers import scheduler, worker
from web_site import Server, a, page

from pipeline import cli

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
CLEAN = """
def total(path):
    with open(path) as file:
        return sum(int(line) for line in file.read().split()[1:])
"""
MODEL = """
import os

model = None

def scores(paths):
    global model
    model = model or (lambda path: os.path.getsize(path) / 2)
    assert len(paths) <= 32
    return [{"name": os.path.basename(path), "score": model(path)} for path in paths]
"""
SWEEP = """def fit(alpha):
    if alpha == 3:
        raise ValueError(f"alpha {alpha} is odd and large")
    return alpha / 2
"""
SALES = "shop,day,amount\nUlm,2024-01-01,4\nKiel,2024-01-01,10\nUlm,2024-01-02,6\n"


def recipes() -> dict[str, list[Block]]:
    """The blocks of each recipe by its title."""
    text = PAGE.read_text(encoding="utf-8")
    starts = [
        (found[1], text.count("\n", 0, found.start()) + 1) for found in re.finditer(r"^## (.*)$", text, re.MULTILINE)
    ]
    ends = [line for _, line in starts[1:]] + [10**6]
    every = list(blocks(PAGE))
    return {title: [b for b in every if line < b.line < end] for (title, line), end in zip(starts, ends, strict=True)}


RECIPES = recipes()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the recipes read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    time = np.arange("2001-01", "2004-01", dtype="datetime64[M]").astype("datetime64[ns]")
    values = np.arange(36.0)[:, None, None] + np.zeros((1, 2, 2))
    places = {"time": time, "lat": [10.0, 20.0], "lon": [0.0, 5.0]}
    xr.DataArray(values, places, ["time", "lat", "lon"], name="air").to_netcdf(tmp_path / "air.nc", engine="h5netcdf")
    files = {
        "orders.csv": "order,ordered\n1,2024-02-03\n2,4.2.2024\n3,soon\n",
        "sales.csv": SALES,
        "shops.csv": "shop,city\nUlm,Ulm\n",
        "trades.csv": "at,stock,n\n2024-01-01T10:00:30,A,1\n2024-01-01T10:00:40,B,2\n2024-01-01T12:00:00,A,3\n",
        "prices.csv": "at,stock,price\n2024-01-01T10:00:00,A,5\n2024-01-01T10:00:35,B,7\n",
        "days/1.csv": "n\n1\n2\n",
        "days/2.csv": "n\n3\n",
        "3.csv": "n\n5\n",
        "flats.csv": "rooms,area,price\n" + "".join(f"{i % 4 + 1},{20 + 3 * i},{100 + 9 * i}\n" for i in range(12)),
        "clean.py": CLEAN,
        "model.py": MODEL,
        "sweep.py": SWEEP,
        **{f"texts/{i:02}.txt": "x" * i for i in range(70)},
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(command: str, capfd: pytest.CaptureFixture[str], **changed: str) -> tuple[int, str]:
    """Run a line of the page in this process, on serial where it names no cluster; the exit code and what it prints."""
    for old, new in changed.items():
        command = command.replace(old, new)
    program, *arguments = shlex.split(command)
    if program == "cp":
        shutil.copy(*arguments)
        return 0, ""
    assert program == "pipeline"
    if arguments[0] == "run" and "--cluster" not in arguments:
        arguments += ["--backend", "serial"]
    code = cli.main(arguments)
    out, err = capfd.readouterr()
    return code, out + err


def is_printed(line: str, printed: str) -> bool:
    """Whether a line is among those printed, ``…`` standing for anything, blanks and the times of progress left out."""
    pattern = ".*".join(re.escape(" ".join(piece.split())) for piece in line.split("…"))
    return any(re.fullmatch(rf"(\d[\d.]* \w+ )?{pattern}", " ".join(one.split())) for one in printed.splitlines())


def follow(title: str, folder: Path, capfd: pytest.CaptureFixture[str], *, code: int = 0, **changed: str) -> str:
    printed = ""
    for block in RECIPES[title]:
        if block.language == "yaml":
            apply(block, folder)
        elif block.language == "sh":
            for command in block.commands:
                got, text = run(command, capfd, **changed)
                assert got == code, text
                printed += text
        else:
            missing = [line for line in block.text.splitlines() if not is_printed(line, printed)]
            assert not missing, f"{missing} are not in:\n{printed}"
    return printed


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def test_the_recipes_are_those_that_are_tested() -> None:
    assert len(RECIPES) == 10
    assert all({"yaml", "sh", "text"} <= {block.language for block in found} for found in RECIPES.values())


def test_a_picture_of_a_series(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    follow("A picture of a series", here, capfd)
    assert (here / "out/yearly.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.filterwarnings("ignore:.*are no times and missing now")
def test_text_dates_of_several_formats(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    follow("Text dates of several formats, bad rows named", here, capfd)
    assert [row[2] for row in rows(here / "out/good.csv")] == ["2024-02-03", "2024-02-04"]
    assert [row[:2] for row in rows(here / "out/bad.csv")] == [["3", "soon"]]


def test_windows_per_group(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    follow("Windows per group", here, capfd)
    assert [[r[0], *r[3:]] for r in rows(here / "out/sales.csv")] == [
        ["Kiel", "", "10", "1", "1.0"], ["Ulm", "", "4", "1", "0.4"], ["Ulm", "2", "10", "2", "0.6"],
    ]  # fmt: skip


def test_an_as_of_join(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    follow("As-of join", here, capfd)
    assert sorted(row[-1] for row in rows(here / "out/both.csv")) == ["", "5", "7"]


def test_one_more_file_tomorrow(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    follow("One more file tomorrow", here, capfd)
    assert sorted(row[-1] for row in rows(here / "out/table.csv")) == ["3", "3", "5"]


def test_a_scikit_learn_grid(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    follow("A scikit-learn grid", here, capfd)
    assert len(rows(here / "out/scores.csv")) == 12
    assert set(json.loads((here / "out/best.json").read_text())) == {"alpha", "fit_intercept"}
    assert len(rows(here / "out/guess.csv")) == 12


def test_batches_for_inference(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    follow("Batches for inference", here, capfd)
    assert len(rows(here / "out/scores.csv")) == 70


def test_a_shared_include(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    follow("A shared include", here, capfd)
    assert rows(here / "out/total.csv") == [["Kiel", "10"], ["Ulm", "10"]]


def test_a_crawl(here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: object) -> None:
        found = getattr(request, "path") == "/"  # noqa: B009
        getattr(request, "send")(200 if found else 404, page(a("/"), a("/dead")), Connection="close")  # noqa: B009

    with Server(answer) as server:
        monkeypatch.setenv("SITE", f"{server.url}/")
        follow("A crawl", here, capfd)
        assert rows(here / "out/dead.csv") == [[f"{server.url}/dead", "404", f"{server.url}/"]]


@pytest.fixture
def address() -> Iterator[str]:
    with scheduler() as found, worker(found):
        yield found.address


def test_a_cluster(here: Path, capfd: pytest.CaptureFixture[str], address: str) -> None:
    follow("A cluster", here, capfd, code=7, **{"tcp://scheduler:8786": address})
    assert np.load(here / "out/other.npy").tolist() == [0, 1, 2, 3]
