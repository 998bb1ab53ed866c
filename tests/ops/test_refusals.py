"""Wrong parameters of every op: refused at a place of the file. A bug in an op is exit 70, never the user's error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from ruamel.yaml import YAML
from snippets import SNIPPETS
from workbooks import write_workbook

from pipeline.builder import step as build_step
from pipeline.builder.build import build
from pipeline.cli import main
from pipeline.config.loader import loads
from pipeline.config.signatures import OPS
from pipeline.errors import ConfigError, DataError, OpError

HERE = Path(__file__).parents[1]
WRONG: tuple[Any, ...] = ("nowhere", -7, ["nowhere", "nowhere"], {"nowhere": 1}, "month(nowhere)")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of files that are not in ``data/``."""
    folder = tmp_path_factory.mktemp("made")
    x = xr.DataArray(np.arange(24.0).reshape(8, 3), {"row": np.arange(8)}, ["row", "column"], name="x")
    np.save(folder / "x.npy", x.values)
    x.to_dataset().to_zarr(folder / "x.zarr", consolidated=False)
    (folder / "rows.jsonl").write_text("".join(f'{{"k": "{i % 3}", "x": {i / 4}}}\n' for i in range(20)))
    write_workbook(folder / "book.xlsx", {"Jan": [["k", "x"], ["a", 1.5]]})
    return folder


def of_the_same_kind(value: Any) -> Iterator[Any]:
    """Wrong values that are nearer to a right one than those of ``WRONG``."""
    if isinstance(value, dict):
        first = next(iter(value.values()))
        yield from ({**value, "nowhere": first}, {"nowhere": first}, dict.fromkeys(value, "nowhere"))
        yield from (dict.fromkeys(value, wrong) for wrong in (-7, 10**9, [3, "x"], "sum(nowhere)"))
    elif isinstance(value, list):
        yield from (value + value, [*value, "nowhere"], value[:-1], value[::-1])
    elif isinstance(value, str):
        yield from (value + "x", [value, value])
    elif isinstance(value, int | float):
        yield from (-value, value * 10**9)


def needed(steps: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The steps that a step refers to, and those that they refer to, in their order."""
    text, found = str(steps[name]), set()
    for other in reversed(list(steps)[: list(steps).index(name)]):
        if other in text:
            found.add(other)
            text += str(steps[other])
    return {other: step for other, step in steps.items() if other in found}


def with_a_wrong_parameter(op: str, made: Path) -> Iterator[str]:
    """Files with steps of the op's snippet, each with one parameter of one step of that op replaced."""
    params = f"{{data: {HERE.parent / 'data'}, made: {made}, site: 'http://127.0.0.1/'}}"
    head = f"version: 1\nmodules: [./everywhere_functions.py]\nparams: {params}\n"
    steps: dict[str, dict[str, Any]] = YAML(typ="safe").load(SNIPPETS[op])
    fields = {name for cls in OPS[op] for name in (*cls.model_fields, *cls.inputs)}
    for name, step in steps.items():
        if step.get("op") != op:
            continue
        for field in sorted(fields):
            for wrong in (*WRONG, *of_the_same_kind(step.get(field))):
                changed = {**needed(steps, name), name: {**step, field: wrong}}
                yield f"{head}steps:\n" + "".join(f"  {k}: {json.dumps(v)}\n" for k, v in changed.items())


def without_a_place(text: str) -> list[str]:
    """The messages of a file's refusal that lack a place; empty also where the file can be built."""
    try:
        build(loads(text, name="test", root=HERE))
    except ConfigError as error:
        return [str(f) for f in error.faults if not f.location.line or not f.path.startswith("steps.")]
    except DataError as error:
        return [line for line in str(error).split("\n") if not line.startswith("steps.") or "(test.yaml:" not in line]
    return []


@pytest.mark.parametrize("op", sorted(SNIPPETS))
def test_a_wrong_parameter_is_refused_at_its_place(op: str, made: Path) -> None:
    assert not [message for text in with_a_wrong_parameter(op, made) for message in without_a_place(text)]


# -- bugs -------------------------------------------------------------------------------------------------------------

SMALL = "version: 1\nsteps:\n  x: {op: zeros, shape: {a: 3}}\n  m: {op: mean, input: x, axis: a}\n"


def patched(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Every op raises ``error`` while it is built."""

    def broken(*args: object, **options: Any) -> None:
        raise error

    monkeypatch.setattr(build_step, "function_of", lambda signature: broken)


def run(text: str, folder: Path, *options: str) -> int:
    (folder / "small.yaml").write_text(text)
    return main(["check", str(folder / "small.yaml"), *options])


@pytest.mark.parametrize("error", [KeyError("internal_table_entry"), ValueError("axis: no"), TypeError("a"), OSError()])
def test_a_bug_in_an_op_is_exit_code_70(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    patched(monkeypatch, error)
    assert run(SMALL, tmp_path, "--debug") == 70
    told = capfd.readouterr().err
    assert "in broken" in told, "the traceback"
    assert "while building steps.x" in told
    assert "small.yaml:3:3" in told


def test_a_bug_names_its_step_without_debug(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    patched(monkeypatch, KeyError("internal_table_entry"))
    assert run(SMALL, tmp_path) == 70
    last = capfd.readouterr().err.splitlines()[-1]
    assert "bug in Pipeline" in last
    assert "while building steps.x" in last


@pytest.mark.parametrize(("field", "place"), [
    ("shape", "small.yaml:3:25: steps.x.shape: no"),
    ("shape.a", "small.yaml:3:29: steps.x.shape.a: no"),
    ("chunks", "small.yaml:3:3: steps.x.chunks: no"),
    ("", "small.yaml:3:3: steps.x: no"),
])  # fmt: skip
def test_an_error_of_an_op_has_the_place_of_its_key(
    field: str, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    patched(monkeypatch, OpError(field, "no"))
    assert run(SMALL, tmp_path) == 2
    assert place in capfd.readouterr().err


def test_bugs_keep_their_type_in_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    patched(monkeypatch, KeyError("internal_table_entry"))
    with pytest.raises(KeyError, match="internal_table_entry"):
        build(loads(SMALL, name="small", root=tmp_path))
