"""Every file in configs/ runs and its checks hold: on what lies in data/, and on the real data where that is given."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from pipeline.builder.build import build
from pipeline.builder.plan import worker_memory
from pipeline.config.loader import load
from pipeline.config.model import Config
from pipeline.errors import CheckError
from pipeline.runs.run import Run, run

CONFIGS = Path(__file__).parents[1] / "configs"

# What is set for a quick run on every machine; each file of the folder has its line.
QUICK: dict[str, dict[str, Any]] = {
    "climate": {},
    "commands": {},
    "images": {},
    "larger_than_memory": {"rows": 20_000, "chunk": 1_000},
    "letters": {},
    "monthly": {},
    "pets": {},  # its service is the fixture pets_service
    "pca": {"rows": 12_000, "chunk": 1_500},
    "progress": {},
    "quickstart": {},  # its root is the fixture few_sources
    "sweep": {},
    "tpch_q1": {},
    "train": {"trees": 30},
    "weather": {},
}


def config(name: str, params: dict[str, Any] | None = None) -> Config:
    return load(CONFIGS / f"{name}.yaml", sets={key: json.dumps(value) for key, value in (params or {}).items()})


@pytest.fixture
def ran(tmp_path: Path) -> Any:
    """Runs a file of the folder with given params."""

    def ran(name: str, backend: str = "serial", workers: int | None = None, **params: Any) -> Run:
        place = tmp_path / backend
        return run(config(name, params), backend=backend, workers=workers, out=place, runs=place / "runs")

    return ran


@pytest.fixture(scope="session")
def few_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like a standard library, with about 90 of its files, and two that are to be left out."""
    library, folder = Path(sysconfig.get_path("stdlib")), tmp_path_factory.mktemp("few")
    for path in sorted(library.glob("*.py"), key=lambda path: (path.stat().st_size, path.name))[:60]:
        shutil.copy(path, folder / path.name)
    for package in ("json", "concurrent", "email"):
        shutil.copytree(library / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for package in ("site-packages", "test"):
        (folder / package / "inner").mkdir(parents=True)
        (folder / package / "inner" / "left_out.py").write_text("def f(): pass\n")
    return folder


@pytest.fixture
def pets_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the service of configs/pets.py, without its delay."""
    monkeypatch.syspath_prepend(CONFIGS)
    service = importlib.import_module("pets").service
    with service(CONFIGS.parent / "data" / "pets" / "pets.csv", delay=0) as address:
        yield address


@pytest.fixture(scope="session")
def tpch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of TPC-H at scale factor 0.1."""
    folder = tmp_path_factory.mktemp("tpch")
    command = [Path(sys.executable).parent / "tpchgen-cli", "parquet", "-s", "0.1", "--parts=4"]
    subprocess.run([*command, f"--output-dir={folder}"], check=True, capture_output=True)
    return folder


def test_every_file_has_a_line_in_the_table_and_vice_versa() -> None:
    assert sorted(QUICK) == sorted(path.stem for path in CONFIGS.glob("*.y*ml"))


@pytest.mark.parametrize("name", sorted(QUICK))
def test_every_file_runs_and_its_checks_hold(name: str, ran: Any, few_sources: Path, pets_service: str) -> None:
    params = {"quickstart": {"root": str(few_sources)}, "pets": {"service": pets_service}}.get(name, QUICK[name])
    r = ran(name, **params)
    assert r.checks
    assert all(check.ok for check in r.checks)
    assert set(r.outputs) == {sink.name for sink in r.graph.sinks}
    assert all((r.root / manifest.path).exists() for manifest in r.outputs.values())


@pytest.mark.parametrize("backend", ["processes", "dask"])
def test_climate_gives_the_same_outputs_on_more_than_one_process(backend: str, ran: Any) -> None:
    alone, spread = ran("climate"), ran("climate", backend=backend, workers=2)
    assert alone.graph.fingerprint == spread.graph.fingerprint
    assert list(alone.outputs) == list(spread.outputs) == ["anomaly[A1B]", "anomaly[E1]", "summary"]
    for output in ("anomaly[A1B]", "anomaly[E1]"):
        xr.testing.assert_identical(alone.open(output).compute(), spread.open(output).compute())
    assert alone.open("summary").equals(spread.open("summary"))


def test_a_file_whose_check_fails_commits_nothing(ran: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckError, match=r"warming\[E1\]"):
        ran("climate", **{"expected.E1": 1.6})
    assert not (tmp_path / "serial" / "climate").exists()


def test_real_climate_warms_by_the_known_amounts(ran: Any, shared_data: Path) -> None:
    r = ran("climate", root=str(shared_data / "climate"), **{"expected.A1B": 4.853, "expected.E1": 2.373})
    assert [check.ok for check in r.checks] == [True, True]
    assert r["anomaly[A1B]"].sizes == {"time": 240, "latitude": 37, "longitude": 49}


def test_real_weather_has_the_known_means(ran: Any, shared_data: Path, tmp_path: Path) -> None:
    expected = tmp_path / "expected.csv"
    expected.write_text("origin,temp\nEWR,55.547\nJFK,54.472\nLGA,55.763\n")
    r = ran("weather", root=str(shared_data / "nyc"), expected=str(expected))
    assert [check.ok for check in r.checks] == [True, True]


@pytest.mark.parametrize("name", sorted(name for name in QUICK if name.startswith("tpch")))
def test_tpch_gives_the_published_answers(name: str, ran: Any, shared_data: Path, tpch: Path) -> None:
    r = ran(name, root=str(tpch), answers=str(shared_data / "tpch-answers" / "sf0.1"))
    assert [check.ok for check in r.checks] == [True]


def test_the_large_array_is_larger_than_what_one_worker_may_use() -> None:
    large = config("larger_than_memory")
    x = build(large).value_types["x"]
    assert x.kind == "array"
    assert x.nbytes >= 2 * worker_memory(large)
    assert x.largest_chunk <= worker_memory(large) / 20


def test_the_large_table_is_larger_than_what_one_worker_may_use() -> None:
    large = config("pca")
    made = build(large).value_types["made"]
    assert made.kind == "array"
    assert made.nbytes >= 1.5 * worker_memory(large)
    assert made.largest_chunk <= worker_memory(large) / 20


@pytest.mark.slow
def test_a_table_larger_than_a_workers_memory_is_joined(ran: Any) -> None:
    r = ran("pca", backend="dask")
    assert all(check.ok for check in r.checks)
    assert len(r.open("wide")) == 1_200_000 - 1_200
    assert max(r.trace.tasks["memory"].to_pylist()) < worker_memory(config("pca"))


@pytest.mark.slow
def test_an_array_larger_than_a_workers_memory_is_reduced(ran: Any) -> None:
    r = ran("larger_than_memory", backend="dask")
    assert [check.ok for check in r.checks] == [True]
    limit = worker_memory(config("larger_than_memory"))
    assert r.graph.value_types["x"].nbytes > limit
    assert max(r.trace.tasks["memory"].to_pylist()) < limit
