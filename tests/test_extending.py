"""docs/extending.md, followed step by step in a copy of the repository."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pages import Block, apply, blocks

HERE = Path(__file__).parents[1]
PAGE = list(blocks(HERE / "docs" / "extending.md"))
COMMANDS = [command for block in PAGE if block.language == "sh" for command in block.commands]
PROGRAMS = {"python": [sys.executable], "pipeline": [sys.executable, "-m", "pipeline"]}

Done = subprocess.CompletedProcess[str]


def called(folder: Path, command: str) -> Done:
    """A command of the page, with the package in ``folder`` instead of the installed one."""
    program, *arguments = shlex.split(command)
    if program == "pip":
        return installed(folder, folder / arguments[-1])
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PIPELINE_", "PYTEST_"))}
    environment |= {"PYTHONPATH": os.pathsep.join([str(folder), str(folder / "site")]), "COLUMNS": "100"}
    line = [*PROGRAMS[program], *arguments]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def installed(folder: Path, project: Path) -> Done:
    """What pip leaves of a project, in a folder of its own: the package, and what says its name and entry points."""
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    name, version = about["name"], about["version"]
    shutil.copytree(project / name, folder / "site" / name)
    info = folder / "site" / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = about["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups]
    (info / "entry_points.txt").write_text("".join(lines))
    return Done([], 0, "", "")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the page touches."""
    folder = tmp_path_factory.mktemp("repository")
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in ("pipeline", "tests", "docs", "data"):
        shutil.copytree(HERE / name, folder / name, ignore=unwanted)
    (folder / "configs").mkdir()
    shutil.copy(HERE / "pyproject.toml", folder)
    return folder


@pytest.fixture(scope="module")
def followed(copy: Path) -> dict[str, Done]:
    """What each command of the page gave, after all that stands above it was done."""
    done = {}
    for block in PAGE:
        if block.language == "sh":
            done |= {command: called(copy, command) for command in block.commands}
        else:
            apply(block, copy)
    return done


@pytest.mark.parametrize("block", [b for b in PAGE if b.language != "sh"], ids=lambda block: f"line {block.line}")
def test_a_block_of_code_says_where_it_goes(block: Block) -> None:
    assert block.language in ("python", "yaml", "toml", "diff")
    assert block.path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_succeeds(followed: dict[str, Done], command: str) -> None:
    done = followed[command]
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-5_000:]


def test_the_new_back_end_passes_the_cases_of_every_back_end(followed: dict[str, Done]) -> None:
    (done,) = (done for command, done in followed.items() if "-k futures" in command)
    passed = int(done.stdout.rsplit(" passed", 1)[0].split()[-1])
    assert passed >= 15
    assert "failed" not in done.stdout


def test_the_op_is_listed_and_described(copy: Path, followed: dict[str, Done]) -> None:
    described = followed["pipeline ops clip_outliers"].stdout
    assert described.startswith("clip_outliers: array -> array")
    assert "how many standard deviations are allowed" in described
    assert "  clip_outliers " in called(copy, "pipeline ops").stdout


def test_the_schema_accepts_the_new_op_and_refuses_an_error(copy: Path, followed: dict[str, Done]) -> None:
    schema = called(copy, "pipeline schema").stdout
    assert "op_clip_outliers" in json.loads(schema)["definitions"]
    (copy / "schema.json").write_text(schema)
    text = (copy / "configs" / "outliers.yaml").read_text()
    (copy / "bad.yaml").write_text(text.replace("n: 3", "n: -3"))
    for file, code in (("configs/outliers.yaml", 0), ("bad.yaml", 1)):
        assert called(copy, f"python -m check_jsonschema --schemafile schema.json {file}").returncode == code


def test_the_op_gives_the_same_on_two_back_ends(followed: dict[str, Done]) -> None:
    (compared,) = (done.stdout for command, done in followed.items() if command.startswith("pipeline compare"))
    assert "futures" in compared
    assert "results equal" in compared


def test_an_op_of_another_package_is_listed_and_runs(copy: Path, followed: dict[str, Done]) -> None:
    assert followed["pipeline ops standardize"].stdout.startswith("standardize: array -> array")
    assert "  standardize " in called(copy, "pipeline ops").stdout
    (ran,) = (done.stdout for command, done in followed.items() if "configs/standards.yaml" in command)
    assert "processes" in ran
    assert (copy / "out" / "standard.zarr").is_dir()


def test_the_code_of_the_page_is_in_the_style_of_the_rest(copy: Path, followed: dict[str, Done]) -> None:
    for command in ("check", "format --check"):
        done = called(
            copy,
            f"python -m ruff {command} --no-cache {' '.join(sorted({b.path for b in PAGE if b.path.endswith('.py')}))}",
        )
        assert done.returncode == 0, done.stdout
    done = called(copy, "python -m pytest -q tests/test_layers.py -p no:cacheprovider")
    assert done.returncode == 0, done.stdout
