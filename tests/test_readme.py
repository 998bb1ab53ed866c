"""README.md: every command on it is run, and what it shows is what is printed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import Block, blocks
from schedulers import scheduler, worker

HERE = Path(__file__).parents[1]
PAGE = list(blocks(HERE / "README.md"))
COMMANDS = [command for block in PAGE if block.language == "sh" for command in block.commands]
MAKE = [command for command in COMMANDS if command.startswith("make ")]
OTHERS = [command for command in COMMANDS if command not in MAKE]
PAGES = ["README.md", "CONTRIBUTING.md", "docs/extending.md", "bench/README.md"]

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a user has, but for the package itself, which is installed."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("configs", "data"):
        shutil.copytree(HERE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (HERE / "Makefile", HERE / "pyproject.toml", *HERE.glob("requirements*.txt")):
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 small packages in the place of the standard library, so that the quickstart takes a second."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "module.py").write_text("")
    for name in "abcdefghijklmnopqrstuvwxyz":
        (folder / f"a{name}").mkdir()
        (folder / f"a{name}" / "module.py").write_text(f"def {name}(x):\n    return 1 if x else '{name}'\n")
    return folder


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a real Dask scheduler with a worker, each a process of its own."""
    with scheduler() as found, worker(found):
        yield found.address


def called(command: list[str], folder: Path, **extra: str) -> Done:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PIPELINE_", "PYTEST_", "DASK_", "MAKE"))}
    return subprocess.run(
        command, cwd=folder, env=environment | extra, capture_output=True, text=True, check=False, timeout=250
    )


def pipeline(command: str, folder: Path, library: Path) -> Done:
    """A ``pipeline`` command of the page; the quickstart on few files, in one round; no advice is tried."""
    _, *arguments = shlex.split(command)
    if "configs/quickstart.yaml" in arguments:
        arguments += ["--set", f"root={library}"]
        if arguments[0] == "compare":
            arguments += ["--repeat", "1"]
    if arguments[0] == "compare":
        arguments.append("--no-try")
    return called([sys.executable, "-m", "pipeline", *arguments], folder)


def test_the_page_begins_with_two_commands() -> None:
    assert COMMANDS[:2] == ["make run", "make test"]


@pytest.fixture(scope="module")
def recorded(clone: Path, library: Path) -> Path:
    """The copy with two runs of the file whose runs and outputs the page looks at."""
    for _ in range(2):
        done = pipeline("pipeline run configs/climate.yaml --backend serial --out out", clone, library)
        assert done.returncode == 0, done.stdout + done.stderr
    return clone


@pytest.mark.parametrize("command", [c for c in OTHERS if "tcp://" not in c])
def test_a_command_ends_well(command: str, clone: Path, library: Path, request: pytest.FixtureRequest) -> None:
    if command.split()[1] in ("diff", "report", "runs", "verify"):
        request.getfixturevalue("recorded")
    done = pipeline(command, clone, library)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", [c for c in OTHERS if "tcp://" in c])
def test_a_command_with_the_address_of_a_scheduler_runs_there(
    command: str, clone: Path, library: Path, address: str
) -> None:
    done = pipeline(re.sub(r"tcp://[\w.:-]+", address, command), clone, library)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 1 worker of 'dask'" in done.stdout


@pytest.mark.parametrize("command", MAKE)
def test_a_target_of_make_installs_from_the_lock_files_first(command: str, clone: Path) -> None:
    done = called([*shlex.split(command), "--dry-run", f"PYTHON={sys.executable}"], clone)
    assert done.returncode == 0, done.stderr
    assert "--require-hashes" in done.stdout


def test_make_run_runs_the_quickstart_and_compares_on_it(clone: Path, library: Path) -> None:
    lines = called(["make", "run", "--dry-run"], clone).stdout.splitlines()
    commands = [line.removeprefix(".venv/bin/") for line in lines if line.startswith(".venv/bin/pipeline ")]
    assert [command.split()[1:3] for command in commands] == [
        ["run", "configs/quickstart.yaml"],
        ["compare", "configs/quickstart.yaml"],
    ]
    for command in commands:
        done = pipeline(command, clone, library)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (clone / "out" / "census" / "style.zarr").is_dir()
    (screen,) = (block.text for block in PAGE if "Fastest:" in block.text)
    heads = [line.split() for line in screen.splitlines() if line.startswith(("back end ", "of workers went "))]
    assert [head[0] for head in heads] == ["back", "of"]
    printed = [line.split() for line in done.stdout.splitlines()]
    assert heads[0] in printed
    assert any(line[:4] == heads[1][:4] for line in printed)


def test_the_page_is_short_and_its_picture_small() -> None:
    assert len((HERE / "README.md").read_text().splitlines()) <= 150
    assert "](docs/report.png)" in (HERE / "README.md").read_text()
    assert (HERE / "docs" / "report.png").read_bytes()[:4] == b"\x89PNG"
    assert (HERE / "docs" / "report.png").stat().st_size < 150_000


def test_the_fault_shown_is_what_is_printed(tmp_path: Path) -> None:
    shown = next(block.text.strip() for block in PAGE if block.text.startswith("pipeline: error:"))
    text = (HERE / "configs" / "climate.yaml").read_text().replace("op: average", "op: avrage")
    (tmp_path / "climate.yaml").write_text(text)
    done = called([sys.executable, "-m", "pipeline", "check", "climate.yaml"], tmp_path)
    assert done.stderr.strip() == shown


@pytest.mark.parametrize("block", [b for b in PAGE if b.language == "yaml"], ids=lambda block: f"line {block.line}")
def test_a_file_on_the_page_runs(block: Block, clone: Path) -> None:
    (clone / "shown.yaml").write_text(block.text)
    done = called([sys.executable, "-m", "pipeline", "run", "shown.yaml", "--backend", "serial", "--out", "o"], clone)
    assert done.returncode == 0, done.stderr
    assert (clone / "o" / "warming.csv").read_text().startswith("scenario,kelvin\nA1B,3.0")


@pytest.mark.parametrize("block", [b for b in PAGE if b.language == "python"], ids=lambda block: f"line {block.line}")
def test_python_on_the_page_runs(block: Block, clone: Path) -> None:
    (clone / "shown.py").write_text(block.text)
    done = called([sys.executable, "shown.py"], clone)
    assert done.returncode == 0, done.stderr
    assert "<xarray.DataArray" in done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_what_is_there(page: str) -> None:
    path = HERE / page
    links = re.findall(r"\]\((?!\w+:)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []
