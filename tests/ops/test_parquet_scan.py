"""What a filter asks is asked while Parquet is read: fewer rows are read, and the results are the same."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from named_ops import frames, sources
from serially import graph_of, partitions_of, table_of, values_of
from strategies import SETTINGS

from pipeline.config.expressions.expression import bind, parse
from pipeline.errors import DataError
from pipeline.ops.sources import parquet_scan

N = 40


def table(n: int = N, seed: int = 0) -> pa.Table:
    numbers = np.random.default_rng(seed)
    days = pa.array(numbers.integers(0, 40, n).astype("int32")).cast(pa.date32())
    floats = pa.array([[1.5, float("nan"), None, -0.0, 7.0][i] for i in numbers.integers(0, 5, n)])
    return pa.table(
        {
            "i": pa.array([None if x == 3 else int(x) for x in numbers.integers(0, 9, n)], pa.int16()),
            "f": floats,
            "d": pa.array([Decimal(int(x)).scaleb(-2) for x in numbers.integers(-20, 20, n)], pa.decimal128(9, 2)),
            "s": pa.array([[None, "a", "B", "zz", ""][x] for x in numbers.integers(0, 5, n)]),
            "b": pa.array([[None, True, False][x] for x in numbers.integers(0, 3, n)]),
            "day": days,
            "z": days.cast(pa.timestamp("us", "UTC")),
            "c": pa.array([f"c{x}" for x in numbers.integers(0, 3, n)]).dictionary_encode(),
            "l": pa.array([[int(x)] for x in range(n)]),
            "sorted": pa.array(range(n), pa.int64()),
        }
    )


PARTS = (
    *("i > 4", "not i > 4", "i != 4", "4 <= i < 7", "i in [1, 2]", "i not in [1, 2]", "not (i in [1, 2])", "i == 1.0"),
    *("f > 1", "not f > 1", "f != 7", "f == 0", "f <= 1.5", "d >= 0.05", "d < 0.1", "d == i", "i < f", "s >= 'a'"),
    *("s == ''", "not s == 'a'", "s != 'a'", "s in ['a', 'zz']", "b", "not b", "b == true", "i + 1 > 4", "missing(s)"),
    *("day >= date('1970-01-20')", "z < timestamp('1970-01-20T00:00Z')", "c == 'c1'", "sorted < 7", "sorted == 33"),
    *("i > 4 or f > 1", "not (i > 4 or f > 1)", "k == 1", "k == 1 or sorted < 3", "k != 2", "k in [5]"),
)


@SETTINGS
@given(st.data())
def test_the_result_is_that_of_a_filter_after_reading(data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=3))
    where = parse(" and ".join(f"({part})" for part in parts), "columns")
    names = sorted(where.names | set(data.draw(st.lists(st.sampled_from([*table(1).column_names, "k"]), max_size=4))))
    with tempfile.TemporaryDirectory() as place:
        for k in (1, 2):
            (Path(place) / f"k={k}").mkdir()
            pq.write_table(table(seed=k), f"{place}/k={k}/x.parquet", row_group_size=data.draw(st.integers(3, N)))
        split = data.draw(st.sampled_from(["files", "row_groups"]))
        whole = sources.read_parquet(path=place, needed=frozenset(names), split=split)
        less = sources.read_parquet(path=place, needed=frozenset(names), split=split, where=where)
        assert less.schema.equals(whole.schema)
        want = table_of(frames.filter(whole, where=where))
        assert table_of(frames.filter(less, where=where)).to_pylist() == want.to_pylist()
        assert table_of(less).num_rows <= table_of(whole).num_rows


def write(folder: Path, n: int = N, **options: Any) -> str:
    pq.write_table(table(n), folder / "x.parquet", row_group_size=10, **options)
    return f"{folder}/x.parquet"


@pytest.mark.parametrize(("where", "n"), [
    ("sorted < 7", 7), ("sorted < 7 and i + 1 > 3", 7), ("sorted < 7 and missing(s)", 7), ("sorted in [3, 5, 90]", 2),
    ("sorted * 2 < 7", N), ("c == 'c1'", N),
])  # fmt: skip
def test_comparisons_of_plain_columns_are_asked_while_reading(tmp_path: Path, where: str, n: int) -> None:
    frame = sources.read_parquet(path=write(tmp_path), where=parse(where, "columns"))
    assert table_of(frame).num_rows == n
    assert frame.lengths == (None if n < N else (N,))


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("not (v > 0)", [1]),
        ("not (v != 0)", [1]),
        ("(v > 0) == False", [1]),
        ("v < 5 or not (v > 1)", [0, 1, 2]),
        ("not (v > 0) and id < 9", [1]),
        ("v > 1", [2]),
        ("v != 1", [2]),
        ("v in [1, 7]", [0]),
    ],
)
def test_no_row_with_nan_is_left_out_for_what_the_statistics_say(tmp_path: Path, where: str, ids: list[int]) -> None:
    pq.write_table(pa.table({"id": [0, 1, 2], "v": [1.0, float("nan"), 2.0]}), tmp_path / "t.parquet")
    text = f'steps:\n  t: {{op: read_parquet, path: t.parquet}}\n  x: {{op: filter, input: t, where: "{where}"}}\n'
    assert values_of(text, tmp_path)["x"]["id"].tolist() == ids


def test_arrow_reads_no_row_group_without_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    read = pq.ParquetFile.read_row_groups

    def counted(file: Any, groups: list[int], **options: Any) -> pa.Table:
        asked.append(groups)
        return read(file, groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    where = parse("sorted == 12 or sorted == 35", "columns")
    frame = sources.read_parquet(path=write(tmp_path), where=where, columns=["sorted", "l", "c"])
    got = table_of(frame)
    assert asked == [[1, 3]]
    assert got.select(["sorted", "l"]).to_pydict() == {"sorted": [12, 35], "l": [[12], [35]]}
    assert got.column("c").to_pylist() == [table().column("c")[i].as_py() for i in (12, 35)]


def test_folders_that_no_row_can_come_from_are_no_partitions(tmp_path: Path) -> None:
    for year in (1999, 2000, 2001):
        (tmp_path / f"year={year}").mkdir()
        pq.write_table(pa.table({"a": [1, 2]}), tmp_path / f"year={year}/x.parquet")
    for text, years in (("year >= 2000", [2000, 2001]), ("year == 2000 and a > 1", [2000]), ("year > 2001", [])):
        frame = sources.read_parquet(path=str(tmp_path), where=parse(text, "columns"))
        assert len(frame.keys) == max(len(years), 1)
        assert sorted(set(table_of(frame).column("year").to_pylist())) == years


def test_paths_with_marks_of_patterns_and_names_of_any_case(tmp_path: Path) -> None:
    odd = tmp_path / "a[1] {b} 'c'.parquet"
    pq.write_table(pa.table({"a": [1, 2], "A": [3, 4], 'x"y': ["p", "q"], "r": [5, 6]}), odd)
    want = {"a": [2], "A": [4], 'x"y': ["q"], "r": [6]}
    plain = tmp_path / "it's.parquet"
    pq.write_table(pa.table({"a": [1, 2], "A": [3, 4], 'x"y': ["p", "q"], "r": [5, 6]}), plain)
    for path in (odd, plain):
        frame = sources.read_parquet(path=[str(path)], where=parse("a > 1", "columns"))
        assert table_of(frames.filter(frame, where=parse("a > 1", "columns"))).to_pydict() == want


STEPS = """
steps:
  r: {op: read_parquet, path: x.parquet}
  small: {op: filter, input: r, where: "sorted < 3 and i + 1 > 0"}
  n: {op: select, input: small, columns: [sorted]}
"""


def rows_read(text: str, root: Path) -> int:
    graph = graph_of(text, root)
    (key,) = graph.value_types["r"].keys
    return graph.tasks[key](  # a source's task needs no other
        {}
    ).num_rows


def test_only_filters_may_use_the_source(tmp_path: Path) -> None:
    write(tmp_path)
    assert rows_read(STEPS, tmp_path) == 3
    assert rows_read(STEPS + "  late: {op: filter, input: r, where: sorted >= 38}\n", tmp_path) == 5
    assert rows_read(STEPS + "  late: {op: filter, input: r, where: sorted * 2 >= 70}\n", tmp_path) == N
    assert rows_read(STEPS + "  all: {op: select, input: r, columns: [sorted]}\n", tmp_path) == N
    assert rows_read(STEPS + "keep: [r, n]\n", tmp_path) == N
    assert values_of(STEPS, tmp_path)["n"].sorted.tolist() == [
        k for k in range(3) if table().column("i")[k].as_py() is not None
    ]


def test_conditions_with_values_of_the_run_are_left_to_the_filter(tmp_path: Path) -> None:
    where = bind(parse("sorted < ${limit} and sorted < 30", "columns"), {"limit": object()})
    frame = sources.read_parquet(path=write(tmp_path), where=where)
    assert table_of(frame).num_rows == 30


def test_what_the_engine_can_not_read_arrow_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    want = partitions_of(sources.read_parquet(path=path))[0]
    monkeypatch.setattr(parquet_scan, "is_plain", lambda kind: False)
    assert partitions_of(sources.read_parquet(path=path))[0].to_pylist() == want.to_pylist()


TYPES = {
    **{
        name: getattr(pa, name)() for name in ("bool_", "int8", "uint32", "uint64", "float32", "large_string", "binary")
    },
    "view": pa.string_view(),
    **{f"stamp_{unit}": pa.timestamp(unit, zone) for unit in ("ms", "us") for zone in (None, "Asia/Tokyo")},
}


@pytest.mark.parametrize("version", ["1.0", "2.6"])
@pytest.mark.parametrize("encoding", [{}, {"use_dictionary": False, "data_page_version": "2.0"}])
def test_both_readers_give_the_same(tmp_path: Path, version: Any, encoding: dict[str, Any]) -> None:
    ends = {"bool_": [True, False], "int8": [-128, 127], "uint32": [0, 2**32 - 1], "uint64": [0, 2**64 - 1]}
    values = {
        name: [*ends.get(name, ["ü\0x", ""] if kind not in (pa.binary(),) else [b"\xff", b""]), None]
        for name, kind in TYPES.items()
    }
    values |= {"float32": [0.1, float("inf"), None]} | {
        n: [-(10**11), 10**11, None] for n in TYPES if n.startswith("stamp")
    }
    stored = pa.table({name: pa.array(values[name], kind) for name, kind in TYPES.items()})
    if version == "1.0":
        stored = stored.drop_columns(["uint32"])
    pq.write_table(stored, tmp_path / "x.parquet", version=version, **encoding)
    file = pq.ParquetFile(tmp_path / "x.parquet")
    read = parquet_scan.scanned(f"{tmp_path}/x.parquet", file, [0], stored.column_names, None)
    for name in stored.column_names:
        field = stored.schema.field(name)
        assert read.column(name).cast(field.type).to_pylist() == stored.column(name).to_pylist(), name


def old_statistics(path: Path) -> None:
    """A file of texts whose statistics are those of old writers, which took the bytes of texts for signed numbers."""
    pq.write_table(pa.table({"s": ["apple", "zebra", "mango", "élan"]}), path, use_dictionary=False)
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    start = len(content) - 8 - length
    # in Thrift: null_count 0, max_value and min_value, both exact; then the older max and min, null_count 0
    new = b"\x36\x00" + b"\x28\x05" + "élan".encode() + b"\x18\x05apple" + b"\x11\x11\x00"
    old = b"\x18\x05zebra" + b"\x18\x05" + "élan".encode() + b"\x16\x00\x00"
    assert new in content[start:]
    footer = content[start:-8].replace(new, old)
    path.write_bytes(content[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


@pytest.mark.parametrize(("where", "n"), [("s == 'mango'", 1), ("s > 'b'", 3), ("s != 'apple'", 3)])
def test_statistics_of_old_writers_are_not_believed(tmp_path: Path, where: str, n: int) -> None:
    old_statistics(tmp_path / "old.parquet")
    text = f"""
        steps:
          rows: {{op: read_parquet, path: old.parquet}}
          few: {{op: filter, input: rows, where: "{where}"}}
          n: {{op: groupby, input: few, by: s, agg: {{n: count()}}}}
    """
    assert len(values_of(text, tmp_path)["n"]) == n
    file = pq.ParquetFile(tmp_path / "old.parquet")
    assert parquet_scan.scan("old.parquet", file, [0], pa.schema([("s", pa.string())]), None) is None


def test_a_statement_finds_missing_values_that_can_not_be(tmp_path: Path) -> None:
    pq.write_table(pa.table({"i": [1, None, 3]}), tmp_path / "x.parquet")
    file = pq.ParquetFile(tmp_path / "x.parquet")
    schema = pa.schema([pa.field("i", pa.int64(), nullable=False)])  # as if statistics said so
    made = parquet_scan.scan(str(tmp_path / "x.parquet"), file, [0], schema, None)
    assert made is not None
    with pytest.raises(DataError, match="a missing value"):
        made.computed()


def test_numbers_that_could_wrap_around_are_read_by_arrow(tmp_path: Path) -> None:
    schema = pa.schema([("d", pa.decimal128(4, 2))])
    pq.write_table(
        pa.table({"d": [Decimal("1.25")]}, schema=schema), tmp_path / "x.parquet", store_decimal_as_integer=True
    )
    file = pq.ParquetFile(tmp_path / "x.parquet")
    assert parquet_scan.scan(str(tmp_path / "x.parquet"), file, [0], schema, None) is None


def test_a_column_may_be_called_as_the_number_of_a_row(tmp_path: Path) -> None:
    rows = pa.table({"FILE_row_number": [7, 8, 9, 10], "s": list("abcd")})
    pq.write_table(rows, tmp_path / "x.parquet", row_group_size=2)
    text = """
        steps:
          rows: {op: read_parquet, path: x.parquet, split: row_groups}
          n: {op: groupby, input: rows, by: s, agg: {n: sum(FILE_row_number)}}
    """
    for _ in range(2):
        assert list(values_of(text, tmp_path)["n"]["n"]) == [7, 8, 9, 10]
