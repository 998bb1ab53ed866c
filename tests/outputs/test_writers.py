"""Written values are read back unchanged, and each format refuses the kinds of values it can't hold."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import pickle
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import cloudpickle
import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import xarray as xr

from pipeline.config.model import Output, Reference
from pipeline.errors import DataError, OpError
from pipeline.graph import file_value
from pipeline.graph.collect import collect
from pipeline.graph.file_value import FileValue
from pipeline.graph.graph import CONTEXT
from pipeline.graph.nodes import constant, execute, toposort
from pipeline.graph.pandas_frames import to_pandas
from pipeline.graph.segments import Dropped
from pipeline.graph.value_types import ArrayType, FrameType, ItemsType, ObjectType, PartsType
from pipeline.outputs.files import Context
from pipeline.outputs.open import open_output, read
from pipeline.outputs.planners import plan_sink
from pipeline.outputs.verification import verify

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def output(to: str, path: str, **keys: Any) -> Output:
    return Output("v", Reference("x", ("x",)), to, path, **keys)


def written(out: Output, value_type: Any, values: dict[Any, Any], folder: Path) -> Any:
    """Run the writer tasks of an output, pickled as for a worker, and verify what they left; gives the sink."""
    tasks, sink = plan_sink(out, value_type, prefix="write v")
    tasks = pickle.loads(cloudpickle.dumps(tasks))
    tasks |= {key: constant(key, value) for key, value in values.items()}
    tasks[CONTEXT] = constant(CONTEXT, Context(str(folder)))
    results: dict[Any, Any] = {}
    for key in toposort(tasks):
        results[key] = execute(tasks[key], results)
    verify([sink], results, folder)
    return sink


def chunked(x: xr.DataArray, chunks: Any) -> tuple[ArrayType, dict[Any, np.ndarray]]:
    sizes = da.core.normalize_chunks(chunks, x.shape)
    value_type = ArrayType("x", x.dims, sizes, x.dtype, xr.Dataset(coords=x.coords, attrs=x.attrs))
    edges = [np.cumsum([0, *along]) for along in sizes]
    values = {}
    for key in value_type.keys:
        values[key] = x.values[tuple(slice(e[i], e[i + 1]) for e, i in zip(edges, key[1:], strict=True))]
    return value_type, values


X = xr.DataArray(
    np.random.default_rng(0).random((10, 7)),
    dims=("time", "cell"),
    coords={
        "time": pd.date_range("2000", periods=10),
        "cell": list("abcdefg"),
        "lat": ("cell", np.arange(7.0)),
        "level": 5,
    },
    attrs={"n": np.float32(2), "title": "t"},
)
KINDS = {
    "float64": X,
    "float32": X.astype("f4"),
    "bool": X > 0.5,
    "int": (X * 100).astype("i2"),
    "complex": X + 1j,
    "time": (X * 1e9).astype("datetime64[ns]").where(X > 0.5),
    "duration": (X * 9).astype("timedelta64[s]"),
    "text": X.astype("U5"),
    "big endian": X.astype(">f8"),
}
CHUNKS = {
    "regular": ((4, 4, 2), (7,)),
    "one": ((10,), (7,)),
    "irregular": ((3, 5, 2), (2, 4, 1)),
    "with empty ones": ((0, 4, 0, 6), (7,)),
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("x", KINDS.values(), ids=KINDS)
def test_zarr_reads_back_as_the_same_array_with_xarray(x, chunks, tmp_path):
    value_type, values = chunked(x, chunks)
    written(output("zarr", "a/b.zarr"), value_type, values, tmp_path)
    with xr.open_zarr(tmp_path / "a/b.zarr") as group:
        xr.testing.assert_identical(group["v"].load(), x.rename("v"))
        assert group["v"].dtype.newbyteorder("=") == x.dtype.newbyteorder("=")


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("x", KINDS.values(), ids=KINDS)
def test_npy_reads_back_as_the_same_values(x, chunks, tmp_path):
    value_type, values = chunked(x, chunks)
    sink = written(output("npy", "b.npy"), value_type, values, tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), x.values)
    assert read(sink, tmp_path).dims == x.dims


STORABLE = {name: x for name, x in KINDS.items() if name != "complex"}


@pytest.mark.parametrize(("x", "cut"), [
    *((x, "irregular") for x in STORABLE.values()), *((X, name) for name in CHUNKS if name != "irregular"),
], ids=[*STORABLE, *(name for name in CHUNKS if name != "irregular")])  # fmt: skip
def test_netcdf_reads_back_as_the_same_array(x, cut, tmp_path):
    value_type, values = chunked(x, CHUNKS[cut])
    sink = written(output("netcdf", "a/b.nc"), value_type, values, tmp_path)
    xr.testing.assert_identical(read(sink, tmp_path).load(), x)
    assert read(sink, tmp_path).dtype.newbyteorder("=") == x.dtype.newbyteorder("=")
    units = {name: xr.coders.CFDatetimeCoder(time_unit="ns") for name in ("v", "time")}
    with xr.open_dataset(tmp_path / "a/b.nc", engine="h5netcdf", decode_times=units, decode_timedelta=True) as found:
        got = found["v"].load()
    want = x.rename("v").assign_attrs({} if x.dtype.kind == "b" else x.attrs)
    xr.testing.assert_equal(got, want)
    assert {name: got.attrs[name] for name in x.attrs} == x.attrs


def test_planning_items_asks_for_their_keys_once(monkeypatch):
    asked: list[int] = []
    keys = ItemsType.keys.fget
    monkeypatch.setattr(ItemsType, "keys", property(lambda self: asked.append(1) or keys(self)))
    names = tuple(map(str, range(500)))
    plan_sink(Output("o", Reference("i", ("i",)), "json", "${key}.json"), ItemsType("i", names, {}, 500), prefix="w")
    assert len(asked) == 1


def test_netcdf_has_the_chunks_asked_for_and_the_same_bytes(tmp_path):
    import h5netcdf

    files: list[bytes] = []
    for _ in range(2):
        value_type, values = chunked(X, ((4, 4, 2), (3, 4)))
        out = output("netcdf", f"{len(files)}.nc", attrs={"units": "K", "of": {"a": [1, "b"]}, "title": None},
                     options={"chunks": {"time": 3, "cell": 2}, "level": 4})  # fmt: skip
        written(out, value_type, values, tmp_path)
        files.append((tmp_path / f"{len(files)}.nc").read_bytes())
    assert files[0] == files[1]
    with open(tmp_path / "0.nc", "rb") as raw, h5netcdf.File(raw, "r") as file:
        assert file["v"].chunks == (3, 2)
        assert (file["v"].compression, file["v"].compression_opts) == ("gzip", 4)
        assert dict(file["v"].attrs)["units"] == "K"
        assert json.loads(file["v"].attrs["of"]) == {"a": [1, "b"]}
        assert "title" not in file["v"].attrs


def test_a_netcdf_file_takes_lengths_that_only_the_run_knows(tmp_path):
    template = xr.Dataset(coords={"k": ["u", "v"]})
    value_type = ArrayType("x", ("row", "k"), ((np.nan, np.nan), (2,)), np.dtype("f8"), template)
    values = {("x", 0, 0): np.ones((3, 2)), ("x", 1, 0): np.zeros((2, 2))}
    sink = written(output("netcdf", "b.nc"), value_type, values, tmp_path)
    found = read(sink, tmp_path)
    assert found.sum("k").values.tolist() == [2, 2, 2, 0, 0]
    assert found["k"].values.tolist() == ["u", "v"]


@pytest.mark.parametrize("form", ["zarr", "netcdf", "npy"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_arrays_of_one_cell_and_of_none_are_written(form, shape, tmp_path):
    x = xr.DataArray(np.full(shape, 2.5))
    value_type, values = chunked(x, shape)
    sink = written(output(form, f"b.{form}"), value_type, values, tmp_path)
    xr.testing.assert_equal(read(sink, tmp_path).load(), x)


def test_an_npy_file_takes_lengths_that_only_the_run_knows(tmp_path):
    value_type = ArrayType("x", ("row",), ((np.nan, np.nan),), np.dtype("f8"), xr.Dataset())
    written(output("npy", "b.npy"), value_type, {("x", 0): np.arange(3.0), ("x", 1): np.arange(2.0)}, tmp_path)
    assert np.load(tmp_path / "b.npy").tolist() == [0, 1, 2, 0, 1]


def test_zarr_chunks_as_asked_for_divide_those_of_the_array(tmp_path):
    value_type, values = chunked(X, ((4, 4, 2), (7,)))
    sink = written(output("zarr", "b.zarr", options={"chunks": {"time": 2}}), value_type, values, tmp_path)
    assert read(sink, tmp_path).chunks[0] == (2,) * 5
    assert read(sink, tmp_path).load().equals(X)


F = pa.table(
    {
        "a": pa.array(range(10)),
        "b": [*"xyxyxyxyx", None],
        "t": pa.array(range(0, 10 * 86_400_000_000, 86_400_000_000), pa.timestamp("us")),
        "o": pa.array([None] * 5 + ["q"] * 5).dictionary_encode(),
        "x": [i / 3 for i in range(10)],
    }
)
PARTITIONS = {("f", 0): F[:3], ("f", 1): F[3:3], ("f", 2): F[3:8], ("f", 3): F[8:]}
FRAME = FrameType("f", 4, F.schema)
DAY, MOMENT = date(2001, 2, 3), datetime(2001, 2, 3, 4, 5, 6, 7000)
EVERY = {
    "bool": pa.array([True, None, False]),
    **{f"int{n}": pa.array([2 ** (n - 1) - 1, None, -(2 ** (n - 1))], f"int{n}") for n in (8, 16, 32, 64)},
    **{f"uint{n}": pa.array([2**n - 1, None, 0], f"uint{n}") for n in (8, 16, 32, 64)},
    "float16": pa.array([0.1, None, 3], "float32").cast("float16"),
    "float32": pa.array([0.1, None, 1e20], "float32"),
    "float64": pa.array([0.1 + 0.2, None, 123456789012.0]),
    "infinite": pa.array([float("inf"), None, float("-inf")]),
    "decimal": pa.array([Decimal("0.00000001"), None, Decimal("-12.50")], pa.decimal128(20, 8)),
    "money": pa.array([Decimal("99999999999999999999999999999999999.999"), None, Decimal(0)], pa.decimal128(38, 3)),
    "string": pa.array(['a "b", c\r\n;', None, ""]),
    "like missing": pa.array(["NA", None, "null"]),
    "category": pa.DictionaryArray.from_arrays(pa.array([1, None, 0], "int32"), ["x", "y"]),
    "date": pa.array([DAY, None, date(1, 1, 1)]),
    **{f"time in {unit}": pa.array([14_706 * n, None, 0], pa.int64()).cast(pa.int32() if n < 10**4 else pa.int64())
       .cast(f"time{32 if n < 10**4 else 64}[{unit}]") for unit, n in UNITS.items()},
    **{f"timestamp in {u}": pa.array([10**8 * n + n // 1000, None, -n], pa.timestamp(u)) for u, n in UNITS.items()},
    "zoned": pa.array([MOMENT, None, MOMENT], pa.timestamp("us", "Europe/Berlin")),
    "zoned in ns": pa.array([10**18 + 1, None, -1], pa.timestamp("ns", "UTC")),
    **{f"duration in {u}": pa.array([95_406 * n + n // 1000, None, -n], pa.duration(u)) for u, n in UNITS.items()},
    "binary": pa.array([b"\x00\xff", None, b""]),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int64())),
    "struct": pa.array([{"a": [Decimal("1.10")], "b": 'é"'}, None, {"a": None, "b": ""}],
                       pa.struct([("a", pa.list_(pa.decimal128(5, 2))), ("b", pa.string())])),
    "list of structs": pa.array([[{"t": MOMENT}, None], None, [{"t": None}]],
                                pa.list_(pa.struct([("t", pa.timestamp("us"))]))),
}  # fmt: skip


def same(found: pa.Table, table: pa.Table) -> None:
    assert found.schema.equals(table.schema)
    assert found.unify_dictionaries().equals(table.unify_dictionaries()) or found.to_pylist() == table.to_pylist()


@pytest.mark.parametrize("files", [None, 1, 3, 20])
def test_parquet_has_the_files_asked_for_and_rows_in_order(files, tmp_path):
    sink = written(output("parquet", "p", files=files, attrs={"unit": "K"}), FRAME, PARTITIONS, tmp_path)
    found = pd.read_parquet(tmp_path / "p")
    assert len(list((tmp_path / "p").iterdir())) == (files or 4)
    assert found["b"].fillna("-").tolist() == [*"xyxyxyxyx", "-"]
    assert found.attrs == {"unit": "K"}
    same(read(sink, tmp_path), F)


@pytest.mark.parametrize("form", ["parquet", "csv", "json", "jsonl"])
def test_every_type_comes_back_as_it_was(form, tmp_path):
    table = pa.table(EVERY)
    out = output("json" if form == "jsonl" else form, f"a.{form}")
    sink = written(out, FrameType("f", 2, table.schema), {("f", 0): table[:1], ("f", 1): table[1:]}, tmp_path)
    found = read(sink, tmp_path)
    if form.startswith("json"):  # which has no inf
        table = table.set_column(
            table.column_names.index("infinite"), "infinite", pa.array([None, None, None], "float64")
        )
    for name in EVERY:
        same(found.select([name]), table.select([name]))


def test_parquet_says_where_nothing_is_missing(tmp_path):
    schema = pa.schema([pa.field("a", pa.uint16(), nullable=False), pa.field("l", pa.list_(pa.string()))])
    table = pa.table([pa.array([1, 2], "uint16"), [["x"], []]], schema=schema)
    sink = written(output("parquet", "p"), FrameType("f", 1, schema), {("f", 0): table}, tmp_path)
    assert pq.read_schema(tmp_path / "p/part-00000.parquet").equals(schema)
    same(read(sink, tmp_path), table)


def test_parquet_of_no_rows_keeps_its_columns(tmp_path):
    written(output("parquet", "p"), FrameType("f", 1, F.schema), {("f", 0): F[:0]}, tmp_path)
    assert list(pd.read_parquet(tmp_path / "p").columns) == F.column_names


def test_parquet_of_no_rows_and_so_of_no_files_opens_too(tmp_path):
    value_type = FrameType("f", 1, F.schema)
    sink = written(output("parquet", "p", partition_by=("b",)), value_type, {("f", 0): F[:0]}, tmp_path)
    assert list(open_output(sink, tmp_path).compute().columns) == read(sink, tmp_path).column_names == F.column_names


def test_parquet_opens_lazily_as_calls_get_frames(tmp_path):
    sink = written(output("parquet", "p"), FRAME, PARTITIONS, tmp_path)
    found = open_output(sink, tmp_path)
    assert found.npartitions == 4
    whole = to_pandas(F)
    assert dict(found.dtypes) == dict(whole.dtypes) or str(found.dtypes["o"]) == "category"
    pd.testing.assert_frame_equal(found.compute().reset_index(drop=True), whole, check_categorical=False)


def test_parquet_partitioned_by_columns_reads_back(tmp_path):
    table = F.set_column(1, F.field(1), pc.fill_null(F["b"], "n /"))
    values = {("f", 0): table[:4], ("f", 1): table[4:4], ("f", 2): table[4:5], ("f", 3): table[5:]}
    sink = written(output("parquet", "p", partition_by=("b", "a")), FRAME, values, tmp_path)
    for found in (
        pd.read_parquet(tmp_path / "p"),
        open_output(sink, tmp_path).compute(),
        to_pandas(read(sink, tmp_path)),
    ):
        found = found.sort_values("x")
        assert found["b"].tolist() == [*"xyxyxyxyx", "n /"]
        assert found["a"].tolist() == [*range(10)]
    same(read(sink, tmp_path).sort_by("x"), table)


FOLDERS = {name: EVERY[name] for name in EVERY if name not in ("binary", "list", "struct", "list of structs")}


@pytest.mark.parametrize("half", [0, 1])
def test_values_of_folders_come_back_in_their_types(half, tmp_path):
    by = list(FOLDERS)[half::2]
    table = pa.table({"k": [1, 2, 3], **FOLDERS})
    value_type = FrameType("f", 1, table.schema)
    sink = written(output("parquet", "p", partition_by=tuple(by)), value_type, {("f", 0): table}, tmp_path)
    found = read(sink, tmp_path).sort_by("k")
    for name in FOLDERS:
        same(found.select([name]), table.select([name]))
    assert list(tmp_path.glob(f"p/{by[0]}=__HIVE_DEFAULT_PARTITION__/{by[1]}=__HIVE_DEFAULT_PARTITION__"))


def test_a_text_that_looks_like_the_missing_folder_is_another(tmp_path):
    table = pa.table({"k": [1, 2, 3, 4], "x": [None, "__HIVE_DEFAULT_PARTITION__", "a/b=%", ""]})
    sink = written(
        output("parquet", "p", partition_by=("x",)), FrameType("f", 1, table.schema), {("f", 0): table}, tmp_path
    )
    assert len(list((tmp_path / "p").iterdir())) == 4
    same(read(sink, tmp_path).sort_by("k"), table)


@pytest.mark.parametrize("quoting", [0, 1, 2])
def test_line_ends_in_text_are_quoted(quoting, tmp_path):
    texts = ["x\ry", "\r", 'a"\r\nb"', "\r\n", "u\nv", "007", "last,\r"]
    table = pa.table({"a\rb": texts, "n": range(len(texts))})
    parts = {("f", 0): table[:3], ("f", 1): table[3:]}
    sink = written(
        output("csv", "c.csv", options={"quoting": quoting}), FrameType("f", 2, table.schema), parts, tmp_path
    )
    with open(tmp_path / "c.csv", newline="") as file:
        assert list(csv.reader(file)) == [["a\rb", "n"], *([text, str(n)] for n, text in enumerate(texts))]
    assert (tmp_path / "c.csv").read_bytes().count(b"\r\n") == 2  # those of the texts
    same(read(sink, tmp_path), table)


@pytest.mark.parametrize(("options", "text"), [
    ({}, ('n,f,t,s,d,b\n1,0.5,2001-02-03T04:05:06.007000,"a,b",1.50,True\n'
         '2,3.0,2001-02-03T00:00:00,"",0.00,False\n,,,,,\n')),
    ({"sep": ";", "decimal": ",", "na_rep": "NA"},
     ('n;f;t;s;d;b\n1;0,5;2001-02-03T04:05:06.007000;a,b;1,50;True\n'
     '2;3,0;2001-02-03T00:00:00;"";0,00;False\nNA;NA;NA;NA;NA;NA\n')),
    ({"float_format": "%.2f", "date_format": "%d.%m.%y", "quoting": 2},
     '"n","f","t","s","d","b"\n1,0.50,"03.02.01","a,b",1.50,True\n2,3.00,"03.02.01","",0.00,False\n,,,,,\n'),
])  # fmt: skip
def test_csv_is_written_as_its_options_say(options, text, tmp_path):
    table = pa.table({"n": [1, 2, None], "f": [0.5, 3.0, None], "t": [MOMENT, datetime(2001, 2, 3), None],
                      "s": ["a,b", "", None], "d": [Decimal("1.50"), Decimal("0.00"), None],
                      "b": [True, False, None]})  # fmt: skip
    sink = written(
        output("csv", "c.csv", options=options), FrameType("f", 1, table.schema), {("f", 0): table}, tmp_path
    )
    assert (tmp_path / "c.csv").read_text() == text
    assert read(sink, tmp_path).schema.equals(table.schema)


def test_json_keeps_every_digit(tmp_path):
    table = pa.table({"i": [2**63 - 1, -(2**53) - 1], "d": [Decimal("0.10"), None], "f": [0.1 + 0.2, float("inf")]})
    written(output("json", "c.jsonl"), FrameType("f", 1, table.schema), {("f", 0): table}, tmp_path)
    assert (tmp_path / "c.jsonl").read_text() == (
        '{"i": 9223372036854775807, "d": "0.10", "f": 0.30000000000000004}\n'
        '{"i": -9007199254740993, "d": null, "f": null}\n'
    )


@pytest.mark.parametrize(("form", "name"), [("csv", "c.csv"), ("json", "c.json"), ("json", "c.jsonl")])
def test_text_of_a_frame_does_not_depend_on_its_partitions(form, name, tmp_path):
    sink = written(output(form, name), FRAME, PARTITIONS, tmp_path)
    one = written(output(form, f"one-{name}"), FrameType("f", 1, F.schema), {("f", 0): F}, tmp_path)
    assert (tmp_path / name).read_bytes() == (tmp_path / one.path).read_bytes()
    same(read(sink, tmp_path), F)


@pytest.mark.parametrize(("form", "name"), [("csv", "c.csv"), ("json", "c.json"), ("json", "c.jsonl")])
def test_text_of_a_frame_without_rows_is_whole(form, name, tmp_path):
    sink = written(output(form, name), FrameType("f", 1, F.schema), {("f", 0): F[:0]}, tmp_path)
    same(read(sink, tmp_path), F[:0])


@pytest.mark.parametrize(("suffix", "unpack"), [(".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)])
def test_files_are_compressed_as_their_names_say(suffix, unpack, tmp_path):
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.mkdir()
    packed.mkdir()
    for form, name in (("csv", "c.csv"), ("json", "c.json"), ("json", "c.jsonl")):
        flat = written(output(form, name), FRAME, PARTITIONS, plain)
        sink = written(output(form, name + suffix), FRAME, PARTITIONS, packed)
        assert unpack(packed / (name + suffix)).read() == (plain / name).read_bytes()
        same(read(sink, packed), read(flat, plain))
    for form, value in (("json", {"a": 1}), ("text", "é\n"), ("pickle", {"a": 1})):
        sink = written(output(form, form + suffix), VALUE, {("x",): value}, packed)
        assert (packed / (form + suffix)).read_bytes()[:2] != json.dumps(value).encode()[:2]
        assert read(sink, packed) == value


def test_json_holds_numpy_pandas_and_missing_values_as_json_does(tmp_path):
    value = {"n": np.nan, "a": np.arange(2), 3: (np.float32(0.5), pd.Timestamp("2000"), np.datetime64("NaT"), pd.NA)}
    written(output("json", "v.json"), ObjectType("x"), {("x",): value}, tmp_path)
    found = json.loads((tmp_path / "v.json").read_text())
    assert found == {"n": None, "a": [0, 1], "3": [0.5, "2000-01-01T00:00:00", None, None]}


def test_json_refuses_what_it_has_no_form_for(tmp_path):
    with pytest.raises(TypeError, match=r"builtins\.object has no JSON form; write it as pickle"):
        written(output("json", "v.json"), ObjectType("x"), {("x",): object()}, tmp_path)
    assert not any(tmp_path.rglob("*v.json*"))


ITEMS = ItemsType("i", ("a=1", "sub/b", "c"), {}, 3, droppable=True)
ITEM_VALUES = {("i", 0): np.arange(3), ("i", 1): np.arange(2), ("i", 2): Dropped("failed")}


@pytest.mark.parametrize(("form", "value", "stored"), [
    ("text", "a\nb\r\n", b"a\nb\r\n"),
    ("text", ["a", "b\u00e9"], "a\nb\u00e9\n".encode()),
    ("text", [], b""),
    ("file", FileValue("p.png", b"\x00\n"), b"\x00\n"),
    ("file", bytearray(b""), b""),
])  # fmt: skip
def test_texts_and_files_are_written_as_they_are(form, value, stored, tmp_path):
    sink = written(output(form, "out/a.b"), VALUE, {("x",): value}, tmp_path)
    assert (tmp_path / "out/a.b").read_bytes() == stored
    assert read(sink, tmp_path) == (stored if form == "file" else stored.decode())


@pytest.mark.parametrize(("form", "value", "message"), [
    ("text", 3, "text takes a text or a list of texts, got int"),
    ("text", ["a\nb"], "has a line break in it"),
    ("file", "plot.png", "a path is only valid on one worker"),
    ("file", 3, "got int$"),
])  # fmt: skip
def test_what_is_no_text_and_no_file_is_refused(form, value, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message):
        written(output(form, "a"), VALUE, {("x",): value}, tmp_path)
    value_type = ItemsType("i", ("k",), {}, 1)
    with pytest.raises(ValueError, match=f"item 'k' can't be written to {form}: .*{message}"):
        written(output(form, "${key}"), value_type, {("i", 0): value}, tmp_path)


def test_a_file_that_is_too_large_to_be_carried_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(file_value, "LARGEST_FILE", 3)
    (tmp_path / "large.bin").write_bytes(b"1234")
    (tmp_path / "small.bin").write_bytes(b"123")
    assert FileValue.read(tmp_path / "small.bin") == FileValue("other name", b"123")
    for make in (lambda: FileValue.read(tmp_path / "large.bin"), lambda: FileValue("large.bin", b"1234")):
        with pytest.raises(
            DataError, match=r"large.bin' has 4 bytes; a file that goes from task to task has at most 3"
        ):
            make()


@pytest.mark.parametrize(("form", "make"), [("text", str), ("file", str.encode)])
def test_texts_and_files_are_a_file_each(form, make, tmp_path):
    values = {("i", 0): make("x\n"), ("i", 1): make(""), ("i", 2): Dropped("failed")}
    sink = written(output(form, "out/${key}.v"), ITEMS, values, tmp_path)
    assert open_output(sink, tmp_path) == {"a=1": make("x\n"), "sub/b": make("")}


@pytest.mark.parametrize("form", ["npy", "json", "pickle"])
def test_items_are_a_file_each_and_dropped_ones_have_none(form, tmp_path):
    sink = written(output(form, "out/${key}/v.${key}"), ITEMS, ITEM_VALUES, tmp_path)
    found = open_output(sink, tmp_path)
    assert {key: list(item) for key, item in found.items()} == {"a=1": [0, 1, 2], "sub/b": [0, 1]}


def test_items_whose_keys_only_the_run_knows_are_a_file_each(tmp_path):
    value_type = ItemsType("i", None, {}, 2)
    values = {("i", 0): [("x", 1), ("y", 2)], ("i", 1): []}
    sink = written(output("pickle", "${key}.pkl"), value_type, values, tmp_path)
    assert read(sink, tmp_path) == collect(value_type, values) == {"x": 1, "y": 2}


def test_many_items_share_writer_tasks(tmp_path):
    value_type = ItemsType("i", tuple(map(str, range(1000))), {}, 1000)
    tasks, sink = plan_sink(output("json", "${key}.json"), value_type, prefix="w")
    assert len(tasks) == len(sink.records) == 256
    sink = written(output("json", "${key}.json"), value_type, {("i", i): i for i in range(1000)}, tmp_path)
    assert read(sink, tmp_path) == {str(i): i for i in range(1000)}


@pytest.mark.parametrize("key", ["../up", "/top", "a//b", "", "a/../b", "."])
def test_a_key_can_not_lead_out_of_the_folder(key):
    with pytest.raises(OpError, match="can't be part of a file's name"):
        plan_sink(output("json", "out/${key}.json"), ItemsType("i", (key,), {}, 1), prefix="w")


ARRAY, VALUE = chunked(X, (10, 7))[0], ObjectType("x")
REFUSED = [
    (output("zarr", "a"), FRAME, "zarr takes array, got frame; use parquet or csv or json"),
    (output("csv", "a"), ARRAY, "csv takes frame or value, got array; use zarr or netcdf or npy"),
    (output("xml", "a"), ARRAY, "formats are parquet zarr netcdf npy csv json pickle text file"),
    (output("zarr", "s3://b/a"), ARRAY, "not built yet"),
    (output("zarr", "a", options={"chunks": {"time": 3}}), ARRAY, "got 3; it must divide the chunks of the array, 10"),
    (output("netcdf", "a"), chunked(X + 1j, (10, 7))[0], "netcdf holds numbers .*; 'v' is complex128"),
    (output("netcdf", "a"), chunked(X.astype("f2"), (10, 7))[0], "'v' is float16"),
    (output("netcdf", "a", options={"chunks": {"tim": 1}}), ARRAY, "options.chunks: 'tim' is not a dim; the dims are"),
    (output("parquet", "a", options={"compression_level": 99}), FRAME, "options.compression_level: got 99"),
    (output("csv", "a.csv.zst"), FRAME, r"compressed files are \.gz \.bz2 \.xz"),
    (output("parquet", "a", partition_by=("z",)), FRAME, "no column z"),
    (
        output("parquet", "a", partition_by=("l",)),
        FrameType("f", 1, pa.schema([("l", pa.list_(pa.int8())), ("n", "int8")])),
        r"l is list\[int8\], which is no name of a folder",
    ),
    (output("pickle", "a.pkl"), ITEMS, "each item is a file: put"),
    (output("pickle", "a/${key}"), VALUE, "is for items, and this is value"),
    (output("pickle", "a"), PartsType({"u": VALUE, "s": VALUE}), "write one of them, with a name.part as input: u s"),
]


@pytest.mark.parametrize(("out", "value_type", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_what_a_format_can_not_hold_is_refused_at_build(out, value_type, message):
    with pytest.raises(OpError, match=message):
        plan_sink(out, value_type, prefix="w")


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_an_array_is_collected_with_coordinates_and_attrs(chunks):
    xr.testing.assert_identical(collect(*chunked(X, chunks)), X)


def test_a_collected_frame_has_a_new_index_and_its_dtypes():
    pd.testing.assert_frame_equal(collect(FRAME, PARTITIONS), to_pandas(F))
    pd.testing.assert_frame_equal(collect(FrameType("f", 1, F.schema), {("f", 0): F[:0]}), to_pandas(F[:0]))


def test_items_parts_and_values_are_collected_by_name():
    assert list(collect(ITEMS, ITEM_VALUES)) == ["a=1", "sub/b"]
    parts = PartsType({"u": VALUE})
    assert collect(parts, {("x",): 3}) == {"u": 3}
    assert collect(PartsType({"u": VALUE}, whole=VALUE), {("x",): 3}) == 3
