"""What sources learn of their files: kept between builds, and as it was when a file is as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
from pyarrow import feather, orc
from workbooks import write_workbook

import pipeline
from pipeline.errors import DataError
from pipeline.graph.graph import Graph
from pipeline.graph.metadata import Metadata
from pipeline.ops.sources import array_readers, arrow_files, csv, excel, file_facts, parquet
from pipeline.ops.sources import json as json_files
from pipeline.ops.sources.array_readers import NetcdfReader
from pipeline.ops.sources.file_facts import facts_of
from pipeline.ops.sources.stored_arrays import Decoder, StoredArray
from pipeline.worker import file_notes

N = 4  # files of a set


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of notes, where files count as settled at once."""
    monkeypatch.setattr(file_notes, "SETTLED_NS", -(10**9))
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_netcdf(path: Path, n: int) -> None:
    big = ("lat", "lon"), np.ones((50, 100))
    x = xr.Dataset({"x": (("time", "lat", "lon"), np.full((1, 50, 100), n, "f4"))}, {"time": [n], "area": big})
    x.time.attrs["units"] = "days since 2001-01-01"
    x.to_netcdf(path.with_suffix(".nc"), engine="h5netcdf")


def write_npy(path: Path, n: int) -> None:
    np.save(path.with_suffix(".npy"), np.full((2, n + 1), n))


def table(n: int) -> pa.Table:
    columns = {
        "n": [n, 2],
        "x": [0.5, None],
        "s": ["a", None],
        "b": [True, False],
        "t": [date(2001, 1, 1 + n % 9), None],
    }
    nested = {"l": pa.array([[n], []], pa.list_(pa.int64())), "d": pa.array(["u", None]).dictionary_encode()}
    return pa.table({**columns, **nested})


def write_parquet(path: Path, n: int) -> None:
    pq.write_table(table(n), path.with_suffix(".parquet"), row_group_size=1)


def write_feather(path: Path, n: int) -> None:
    feather.write_feather(table(n), path.with_suffix(".feather"))


def write_orc(path: Path, n: int) -> None:
    orc.write_table(table(n).drop_columns("d"), path.with_suffix(".orc"))


def write_csv(path: Path, n: int) -> None:
    last = "x" if n == 2 else "1.5"
    path.with_suffix(".csv").write_text(f"# a comment\na;b;c;d\n{n};NA;1,5;\n3;7;{last};-\nthe end\n")


def write_json(path: Path, n: int) -> None:
    rows = [{"a": n, "b": {"c": [1.5]}, "d": None, "e": 1 if n else "x"}, {"a": 2.5, "e": "y"}]
    path.with_suffix(".jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def write_excel(path: Path, n: int) -> None:
    rows = [["a", "b", "c"], [n, "x", 1.5], [2, None, "#N/A" if n == 1 else 2]]
    write_workbook(path.with_suffix(".xlsx"), {"first": rows, "second": rows[:2]})


KINDS: dict[str, tuple[Callable[[Path, int], None], str]] = {
    "netcdf": (write_netcdf, "from_netcdf, variable: x"),
    "npy": (write_npy, "from_npy, along: dim_1"),
    "parquet": (write_parquet, "read_parquet, split: row_groups"),
    "feather": (write_feather, "read_feather"),
    "orc": (write_orc, "read_orc"),
    "csv": (write_csv, "read_csv, sep: ';', decimal: ',', comment: '#', na_values: {d: ['-']}, skip_footer: 1"),
    "json": (write_json, "read_json, cast: {e: string}"),
    "excel": (write_excel, "read_excel, sheet: ['*']"),
}


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> pipeline.Pipeline:
    write, op = KINDS[request.param]
    (tmp_path / "data").mkdir()
    for n in range(N):
        write(tmp_path / "data" / str(n), n)
    return pipeline.load(f"version: 1\nsteps: {{a: {{op: {op}, path: data}}}}\nkeep: [a]\n", root=tmp_path)


def what(graph: Graph) -> object:
    return graph.fingerprint, str(graph.value_types["a"]), graph.warnings


def read(graph: Graph) -> tuple[int, int]:
    return graph.metadata.files, graph.metadata.read


def test_a_second_build_opens_no_file(source: pipeline.Pipeline, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = source.build()
    assert read(first) == (N, N)
    monkeypatch.setattr(file_facts, "call_each", None)
    second = source.build()
    assert read(second) == (N, 0)
    assert what(second) == what(first)


def test_a_file_that_changed_or_is_new_is_read_alone(source: pipeline.Pipeline, kept: Path, tmp_path: Path) -> None:
    source.build()
    paths = sorted((tmp_path / "data").iterdir())
    data = paths[0].read_bytes()
    paths[0].unlink()
    paths[0].write_bytes(data)
    other = paths[-1].rename(paths[-1].with_stem("z"))  # its times of change and its path
    assert read(source.build()) == (N, 2)
    other.write_bytes(b"\xff\xfe no file of any kind")
    with pytest.raises(DataError, match=rf"{other.name}: "):
        source.build()
    other.unlink()
    assert read(source.build()) == (N - 1, 0)


def test_nothing_is_kept_of_files_that_have_just_changed(
    source: pipeline.Pipeline, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_notes, "SETTLED_NS", 3_600 * 10**9)
    for _ in range(2):
        assert read(source.build()) == (N, N)
    assert not (kept / "file_notes.sqlite").exists()


def test_helpers_read_what_this_process_would(
    source: pipeline.Pipeline, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = source.build()
    for path in kept.iterdir():
        path.unlink()
    by_helpers: list[str] = []

    class There(file_facts._There):  # type: ignore[type-arg]
        def __call__(self, path: str) -> tuple[str, file_facts.Fact]:
            by_helpers.append(path)
            return super().__call__(path)

    def call_there(paths, here, there, received, done, **how):  # type: ignore[no-untyped-def]
        found = [received(there(path)) for path in paths]
        done(len(paths))
        return found

    monkeypatch.setattr(file_facts, "_There", There)
    monkeypatch.setattr(file_facts, "call_each", call_there)
    assert what(source.build()) == what(alone)
    assert len(by_helpers) == N
    assert read(source.build()) == (N, 0)


def test_notes_that_cannot_be_understood_are_not_used(
    source: pipeline.Pipeline, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = source.build()
    readers = (array_readers.NetcdfReader, array_readers.NpyReader, parquet.FooterReader, arrow_files.SchemaReader)
    for reader in (*readers, csv.HeadReader, json_files.JsonReader, excel.SheetsReader):
        monkeypatch.setattr(reader, "unpack", lambda *_: 1 / 0)
    second = source.build()
    assert read(second) == (N, N)
    assert what(second) == what(first)


def test_a_footer_is_kept_whole(tmp_path: Path) -> None:
    write_parquet(tmp_path / "0", 0)
    path, reader = str(tmp_path / "0.parquet"), parquet.FooterReader(None)
    found = reader.read(path)
    fact = reader.pack(found)
    assert fact is not None
    again = reader.unpack(path, fact)
    assert again.schema.equals(found.schema, check_metadata=True)
    assert (again.path, again.rows) == (path, 2)
    assert again.metadata.to_dict() == found.metadata.to_dict()  # also the statistics of each row group


def test_large_parts_are_kept_once(tmp_path: Path, kept: Path) -> None:
    for n in range(N):
        write_netcdf(tmp_path / str(n), n)
    paths = [str(tmp_path / f"{n}.nc") for n in range(N)]
    facts_of(NetcdfReader("x", "", True, None), paths)
    (database,) = kept.iterdir()
    assert 40_000 < database.stat().st_size < 100_000  # one part of 40 kB
    again = facts_of(NetcdfReader("x", "", True, None), paths)
    areas = [next(raw for raw in record.coordinates if raw.name == "area") for record in again]
    assert {area.token for area in areas} == {areas[0].token}
    arrays = Decoder(times=True).arrays(list(zip(paths, again, strict=True)), {path: {} for path in paths})
    assert len({id(array.coords["area"]) for array in arrays}) == 1


def test_files_kept_for_other_options_are_read(tmp_path: Path, kept: Path) -> None:
    write_netcdf(tmp_path / "0", 0)
    text = "version: 1\nsteps: {a: {op: from_netcdf, path: 0.nc, variable: %s, decode_times: %s}}\nkeep: [a]\n"
    for options in (("x", "true"), ("x", "false"), ("time", "true")):
        graph = pipeline.load(text % options, root=tmp_path).build()
        assert graph.metadata == Metadata(1, 1, graph.metadata.seconds)
        assert what(graph) == what(pipeline.load(text % options, root=tmp_path).build())


# ---------------------------------------------------------------------------------------------------------------------
# Times of many files
# ---------------------------------------------------------------------------------------------------------------------

UNITS: dict[str, tuple[Any, ...]] = {
    "days": ([0.0, 1.0], [2.5, 3.125]),
    "whole days": (np.array([0, 1], "i4"), np.array([700_000, 2], "i4")),
    "hours": ([0.1, 1.0], [1 / 3, 2.0]),
    "fractions": ([43830.041666666664], [43831.1]),
    "missing": ([0.0, np.nan], [1.0, 2.0]),
    "out of nanoseconds": ([0.0], [1e6]),
}


@pytest.mark.parametrize("calendar", ["standard", "proleptic_gregorian", "noleap", "360_day"])
@pytest.mark.parametrize("name", UNITS)
def test_times_of_many_files_are_those_of_each(tmp_path: Path, name: str, calendar: str) -> None:
    paths = []
    for i, numbers in enumerate(UNITS[name]):
        units = {"units": f"{'hours' if name == 'hours' else 'days'} since 2001-01-01", "calendar": calendar}
        x = xr.Dataset({"x": ("time", np.arange(len(numbers)))}, {"time": ("time", numbers, units)})
        paths.append(str(tmp_path / f"{i}.nc"))
        x.to_netcdf(paths[-1], engine="h5netcdf")
    records = [NetcdfReader("x", "", True, None).read(path) for path in paths]
    pairs = list(zip(paths, records, strict=True))

    def labels(arrays: list[StoredArray]) -> list[tuple[str, list[object]]]:
        return [(str(array.coords["time"].dtype), [*map(str, array.coords["time"].values)]) for array in arrays]

    each = [Decoder(times=True).arrays([pair], {path: {} for path in paths})[0] for pair in pairs]
    assert labels(Decoder(times=True).arrays(pairs, {path: {} for path in paths})) == labels(each)
