"""docs/language.md: every example of every row is run, and nothing of the language is left out."""

from __future__ import annotations

import io
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pytest
import xarray as xr
from lakes import write_database, write_delta, write_iceberg
from pages import blocks
from pyarrow import orc
from web_site import Server, a, page
from workbooks import write_workbook

import pipeline
from pipeline import cli
from pipeline.config import loader, step_syntax
from pipeline.config.expressions.functions import AGGREGATES, FUNCTIONS, WINDOWS
from pipeline.config.sections.formats import FORMATS
from pipeline.config.sections.keys import CheckKeys
from pipeline.config.signatures import COMMON_KEYS, OPS
from pipeline.runs.run import Run

HERE = Path(__file__).parents[2]
PAGE = HERE / "docs" / "language.md"
BASE, *OTHERS = (block.text for block in blocks(PAGE) if block.language == "yaml")
MODULE = """
import numpy as np

def fit(alpha, data=None):
    return {"model": [alpha], "rmse": float(alpha) ** 2}

def numbers(n):
    return list(range(1, n + 1))

def word():
    return "word"

def total(*values):
    return sum(float(np.sum(value)) for value in values)

def n_rows(frame):
    return len(frame)

def half(x):
    return x / 2

def draw(k, seed):
    return int(np.random.default_rng(seed).integers(100)) + k

def double(block):
    return block * 2

def chunk(t):
    return np.arange(t.start, t.stop, dtype=float)

def rows(partition, n_partitions):
    return [{"k": partition}]

def warm(part):
    return part.loc[part["temp"] > 60, ["temp"]]
"""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Parameters
    ----------
    table : what stands above its first column
    names : what stands in backticks in its first cell
    examples : what stands in backticks in its last cell
    """

    table: str
    names: tuple[str, ...]
    examples: tuple[str, ...]
    line: int

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield each example with its own name."""
        for number, example in enumerate(self.examples):
            yield f"row{self.line}_{number}", example


def rows() -> Iterator[Row]:
    table = ""
    for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("|"):
            table = ""
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not table:
            table = cells[0].strip("| ")
        elif not line.startswith("|---"):
            assert len(cells) == 3, f"line {number} has {len(cells)} cells"
            names, examples = (tuple(re.findall(r"`([^`]+)`", cell)) for cell in (cells[0], cells[2]))
            yield Row(table, tuple(name for text in names for name in text.split()), examples, number)


ROWS = list(rows())
OF = {table: [row for row in ROWS if row.table == table] for table in dict.fromkeys(row.table for row in ROWS)}
STEPS = ["kind", "key of a step", "reference", "value", "function", "op"]


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the page uses."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copy(HERE / "data" / "climate" / "E1_north_america.nc", folder / "air.nc")
    for name in ("weather.csv", "airports.csv"):
        shutil.copy(HERE / "data" / "nyc" / name, folder)
    shutil.copytree(HERE / "data" / "tpch" / "orders", folder / "orders")
    x = np.arange(24.0).reshape(8, 3)
    np.save(folder / "x.npy", x)
    xr.DataArray(x, dims=["row", "col"], name="x").to_dataset().to_zarr(folder / "x.zarr", consolidated=False)
    numbers = pa.table({"id": [1, 2]})
    feather.write_feather(numbers, f"{folder}/x.feather")
    orc.write_table(numbers, f"{folder}/x.orc")
    write_database(folder / "shop.db", "sales", [(1, 2.5), (2, 3.5)])
    write_delta(folder / "events", numbers)
    write_iceberg(folder / "trips", numbers)
    more = '"tags": ["a"], "place": {"city": "Ulm"}, "text": "{\\"a\\": 1}"'
    written(folder, "rows.jsonl", f'{{"k": "a", "x": 1.5, {more}}}\n{{"k": "b", "x": 2, {more}}}\n')
    (folder / "german.csv").write_bytes("day;price\n31.12.2001;1.234,5\n".encode("latin-1"))
    write_workbook(folder / "book.xlsx", {"sales": [["id", "n"], [7, 1.5]]})
    written(folder, "points.csv", "alpha\n1\n2\n")
    written(folder, "more.yaml", "version: 1\nsteps: {more: {op: arange, stop: 3}}\n")
    written(folder, "mine.py", MODULE)
    written(folder, "pipeline.yaml", BASE)
    return folder


@pytest.fixture(scope="module", autouse=True)
def site() -> Iterator[None]:
    """The site that the page crawls; it keeps no connection open, so that no thread stays with one."""
    with (
        Server(lambda r: r.send(200, page(a("/")), Connection="close")) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SITE", f"{server.url}/")
        yield


@pytest.fixture(scope="module")
def whole(here: Path) -> pipeline.Pipeline:
    """One file with the examples of all rows but those of the file's own keys."""
    steps = [f"  {name}: {example}\n" for table in STEPS for row in OF[table] for name, example in row.named()]
    outputs = [f"  {name}: {example.partition(': ')[2]}\n" for row in OF["format"] for name, example in row.named()]
    checks = [f"  - {example}\n" for row in OF["check"] for example in row.examples]
    kept = [name for table in STEPS for row in OF[table] for name, _ in row.named()]  # else they would not be computed
    text = f"{BASE}{''.join(steps)}outputs:\n{''.join(outputs)}checks:\n{''.join(checks)}keep: [{', '.join(kept)}]\n"
    return pipeline.load(written(here, "all.yaml", text))


@pytest.fixture(scope="module")
def ran(whole: pipeline.Pipeline, here: Path) -> Run:
    return whole.run(backend="serial", out=here / "out", runs=here / "runs")


def test_the_page_is_short_and_shows_one_file() -> None:
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 200
    assert not OTHERS


def test_every_row_has_a_name_and_an_example() -> None:
    assert len(ROWS) > 100
    assert not [row.line for row in ROWS if not row.names or not row.examples]
    assert {row.table for row in ROWS} == {*STEPS, "format", "check", "key of the file"}


@pytest.mark.parametrize("row", OF["key of the file"], ids=lambda row: row.names[0])
def test_a_key_of_the_file_is_accepted(row: Row, here: Path) -> None:
    for name, example in row.named():
        key = example.partition(":")[0]
        assert key in (name.strip(",") for name in row.names)
        text = re.sub(rf"^{key}:.*\n", "", BASE, flags=re.MULTILINE)
        assert pipeline.load(written(here, f"{name}.yaml", f"{text}{example}\n")).build().tasks


def test_every_example_of_a_step_is_run(whole: pipeline.Pipeline, ran: Run) -> None:
    done = set(ran.trace.tasks["step"].to_pylist())
    lines = {name: row.line for table in STEPS for row in OF[table] for name, _ in row.named()}
    copies = {copy: step for copy, step in whole.config.steps.items() if step.step in lines}
    assert {step.step for step in copies.values()} == set(lines)
    known = ("files", "set_labels")  # paths and labels are known without a task
    left = [copy for copy, step in copies.items() if copy not in done and step.function not in known]
    assert not [lines[copies[copy].step] for copy in left]


@pytest.mark.parametrize("row", OF["format"], ids=lambda row: row.names[0])
def test_an_example_of_an_output_is_written(row: Row, ran: Run) -> None:
    for name, _ in row.named():
        written = [manifest for output, manifest in ran.outputs.items() if output.partition("[")[0] == name]
        assert written
        assert all(list(ran.root.glob(manifest.path.replace("${key}", "*"))) for manifest in written)


def test_the_examples_of_checks_are_made(ran: Run) -> None:
    assert len(ran.checks) == sum(len(row.examples) for row in OF["check"])
    assert all(check.ok for check in ran.checks)


# ---------------------------------------------------------------------------------------------------------------------
# All of the language is there
# ---------------------------------------------------------------------------------------------------------------------


def names_of(table: str) -> list[str]:
    return [name.strip(",") for row in OF[table] for name in row.names]


def test_every_op_has_a_row_that_uses_it(whole: pipeline.Pipeline) -> None:
    assert sorted(names_of("op")) == sorted(OPS)
    for row in OF["op"]:
        assert {f"{{op: {name}" for name in row.names} == {re.match(r"\{op: \w+", e)[0] for e in row.examples}
    used = {type(step.parameters) for step in whole.config.steps.values() if step.kind == "op"}
    assert not [cls.__name__ for classes in OPS.values() for cls in classes if cls not in used]


def test_every_function_has_a_row_that_calls_it() -> None:
    assert set(names_of("function")) == {*FUNCTIONS, *AGGREGATES, *WINDOWS}
    for row in OF["function"]:
        assert not [name for name in row.names if not any(f"{name}(" in example for example in row.examples)]


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("key of the file", set(loader.TOP_LEVEL)),
        ("kind", set(step_syntax.KINDS)),
        ("key of a step", {*COMMON_KEYS, *step_syntax.CALL_KEYS, *step_syntax.COMMAND_KEYS}),
        ("format", set(FORMATS)),
        ("check", set(CheckKeys.model_fields) - {"abs", "rel", "sep"}),
    ],
)
def test_every_key_and_format_has_a_row(table: str, names: set[str]) -> None:
    assert names <= set(names_of(table))


# ---------------------------------------------------------------------------------------------------------------------
# Python and commands
# ---------------------------------------------------------------------------------------------------------------------


def test_the_python_of_the_page_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (code,) = (block.text for block in blocks(PAGE) if block.language == "python")
    names: dict[str, Any] = {}
    exec(compile(code, "page.py", "exec"), names)
    p = names["p"]
    assert p.steps == ("x", "square")
    p.run(backend="serial", out="squares")
    np.testing.assert_array_equal(np.load(here / "squares" / "square-b.npy"), np.arange(8) ** 2 + np.arange(8))


COMMANDS = [command for block in blocks(PAGE) if block.language == "sh" for command in block.commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_succeeds(
    command: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr("sys.stdin", io.StringIO("continue\n"))
    program, *arguments = shlex.split(command)
    assert program == "pipeline"
    assert cli.main(arguments) == 0, capsys.readouterr().err
