"""Every op gives the same on every back end: the snippets of all ops are one Graph, and it is run once on each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pytest
import xarray as xr
from lakes import write_database, write_delta, write_iceberg
from pyarrow import orc
from snippets import SNIPPETS
from web_site import Server, a, page
from workbooks import write_workbook

from pipeline.backends.registry import BACKENDS, create
from pipeline.builder import siblings
from pipeline.builder.build import build
from pipeline.config.loader import loads
from pipeline.config.model import Config
from pipeline.config.signatures import OPS
from pipeline.experiments.comparison.measured_run import kept_value_types
from pipeline.graph.collect import collect
from pipeline.graph.graph import Graph
from pipeline.graph.value_types import FrameType, PartsType, ValueType
from pipeline.runs.equality import equal

HERE = Path(__file__).parents[1]
OPTIONS: dict[str, dict[str, Any]] = {"dask": {"dashboard": False}}
SEED = 20


def text_of(snippets: Mapping[str, str], made: Path, site: str = "http://127.0.0.1/") -> str:
    """One file with the steps of all snippets."""
    params = f"{{data: '{HERE.parent / 'data'}', made: '{made}', site: '{site}'}}"
    head = f"version: 1\nseed: {SEED}\nmodules: [./everywhere_functions.py]\nparams: {params}\n"
    return f"{head}steps:\n{''.join(snippets.values())}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of files that are not in ``data/``."""
    folder = tmp_path_factory.mktemp("made")
    x = np.arange(24.0).reshape(8, 3)
    np.save(folder / "x.npy", x)
    labelled = xr.DataArray(x, {"row": np.arange(8) * 10}, ["row", "column"], name="x")
    labelled.to_dataset().to_zarr(folder / "x.zarr", consolidated=False)
    numbers = pa.table({"id": range(9), "s": list("abcabcabc")})
    feather.write_feather(numbers, f"{folder}/x.feather")
    orc.write_table(numbers, f"{folder}/x.orc")
    write_database(folder / "shop.db", "sales", [(i, i / 4) for i in range(9)])
    write_delta(folder / "events", numbers, numbers)
    write_iceberg(folder / "trips", numbers)
    rows = "".join(f'{{"k": "{"abc"[i % 3]}", "x": {i / 4}}}\n' for i in range(20))
    (folder / "rows.jsonl").write_text(rows)
    write_workbook(folder / "book.xlsx", {"Jan": [["k", "x"], ["a", 1.5]], "Feb": [["k", "x"], ["b", None]]})
    return folder


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """A web site of a page with a dead link; it keeps no connection open, so that no thread stays with one."""
    links = page(a("/"), a("/dead"))
    with Server(lambda r: r.send(404 if "dead" in r.path else 200, links, Connection="close")) as server:
        yield f"{server.url}/"


@pytest.fixture(scope="module")
def config(made: Path, site: str) -> Config:
    return loads(text_of(SNIPPETS, made, site), name="everywhere", root=HERE)


@pytest.fixture(scope="module")
def graph(config: Config) -> Graph:
    return build(config)


@pytest.fixture(scope="module")
def expected(graph: Graph) -> dict[str, Any]:
    return values(graph, "serial")


def values(graph: Graph, backend: str) -> dict[str, Any]:
    """What a run gives back, by copy of a step."""
    with create(backend, workers=2, **OPTIONS.get(backend, {})) as opened:
        results = opened.run(graph).results
    return {copy: collect(value_type, results) for copy, value_type in kept_value_types(graph).items()}


def differences(name: str, value_type: ValueType, reference: Any, other: Any) -> list[str]:
    """What differs of one value, part by part."""
    if isinstance(value_type, PartsType) and value_type.whole is None:
        parts = value_type.parts.items()
        return [told for part, of in parts for told in differences(f"{name}.{part}", of, reference[part], other[part])]
    value_type = value_type.whole if isinstance(value_type, PartsType) else value_type
    found = equal(value_type.kind, reference, other, ordered=isinstance(value_type, FrameType) and value_type.ordered)
    return [] if found.bitwise else [f"{name}: {found.message or 'no bit by bit equality'}"]


def test_every_op_has_a_snippet_that_uses_it_last(made: Path) -> None:
    assert not set(OPS) - set(SNIPPETS), "tests/snippets.py lacks entries"
    for op, snippet in SNIPPETS.items():
        alone = loads(text_of({op: snippet}, made), name=op, root=HERE)
        last = list(alone.steps.values())[-1]
        assert op in (last.function, *(alone.steps[r.instances[0]].function for r in last.references())), op


def test_every_class_of_an_op_is_used(config: Config) -> None:
    used = {type(step.parameters) for step in config.steps.values() if step.kind == "op"}
    lacking = [cls.__name__ for classes in OPS.values() for cls in classes if cls not in used]
    assert not lacking


def test_siblings_of_every_op_have_the_tasks_of_built_ones(made: Path, site: str, monkeypatch: Any) -> None:
    alone = {"stack", "to_frame"}  # what they gather has a matrix already
    text = text_of({op: steps for op, steps in SNIPPETS.items() if op not in alone}, made, site)
    config = loads(text, name="everywhere", root=HERE)
    plain = {step.step for step in config.steps.values() if not step.references() and not step.matrix}
    with_matrix = re.sub(
        rf"^  ({'|'.join(map(re.escape, sorted(plain)))}):(?: {{|\n    (?=\S))",
        lambda m: f"{m[0]}matrix: {{sibling: [1, 2, 3]}}" + (", " if m[0].endswith("{") else "\n    "),
        text,
        flags=re.M,
    )
    config = loads(with_matrix, name="everywhere", root=HERE)
    assert len(config.steps) > 400
    renamed = build(config)
    monkeypatch.setattr(siblings, "_FEW", 10**9)
    assert build(config).fingerprint == renamed.fingerprint


@pytest.mark.parametrize(("move", "named"), [("rechunk", "rechunk"), ("shuffle", "(?<!rechunk)-split")])
def test_what_tasks_move_is_stated_by_their_op(move: str, named: str, graph: Graph) -> None:
    owned = ((str(key[0]).removeprefix(owner), owner) for key, owner in graph.owners.items())
    moving = {owner for layer, owner in owned if re.search(named, layer)}
    assert moving
    assert moving == {copy for copy, stated in graph.moves.items() if move in stated}


def test_no_value_is_empty(expected: dict[str, Any]) -> None:
    assert set(SNIPPETS) <= {copy.partition("[")[0] for copy in expected}
    assert not [name for name, value in expected.items() if not np.size(value)]


# a process for each of some thousand segments takes minutes, and its values go the same way as those of processes
# (pool's and manager's do, too: they are tried in the long tests)
@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("pool", "manager") else ())
        for name in BACKENDS
        if name not in ("serial", "process-per-task")
    ],
)
def test_every_op_gives_bit_by_bit_what_serial_gives(backend: str, graph: Graph, expected: dict[str, Any]) -> None:
    got = values(graph, backend)
    assert set(got) == set(expected)
    value_types = kept_value_types(graph)
    assert not [told for copy in got for told in differences(copy, value_types[copy], expected[copy], got[copy])]
