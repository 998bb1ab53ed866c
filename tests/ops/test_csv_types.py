"""Types and values of CSV columns: exact, the same whatever the blocks, and faults that name file, line and cure."""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import io
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from csv_files import csv_file, read
from hypothesis import given
from hypothesis import strategies as st
from serially import partitions_of, table_of
from strategies import SETTINGS

from pipeline.errors import DataError, OpError
from pipeline.ops.build_warnings import recorded
from pipeline.ops.sources.csv import read_csv

CSV = "id,x,name,when\n" + "".join(
    f"{i},{i / 7:.6f},{'NA' if i % 5 == 0 else f'name {i}'},2013-01-{i % 28 + 1:02}T06:00:00Z\n" for i in range(200)
)
MARKED = {"NA", "None", "null", "NaN", "N/A"}


def short_heads(monkeypatch: pytest.MonkeyPatch, n: int = 20) -> None:
    """Types come from the first bytes only."""
    for name in ("_HEAD", "SAMPLE"):
        monkeypatch.setattr(f"pipeline.ops.sources.csv_heads.{name}", n)


def types(path: str, **options: Any) -> list[str]:
    return [str(kind) for kind in read_csv(path=path, **options).schema.types]


def as_pandas(path: str, **options: Any) -> dict[str, list[Any]]:
    """What pandas reads; a float stands for a whole number where others are missing."""
    frame = pd.read_csv(path, **options)
    return {name: [None if pd.isna(x) else x for x in frame[name].tolist()] for name in frame}


def marked(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Texts that mean missing to pandas as missing."""
    return {name: [None if x in MARKED else x for x in values] for name, values in columns.items()}


@pytest.mark.parametrize("blocksize", [40, 999, 5_000, None])
def test_csv_is_what_pandas_reads_whatever_the_blocks(tmp_path: Path, blocksize: int | None) -> None:
    path = csv_file(tmp_path, CSV)
    got = read(path, blocksize=blocksize)
    assert got["name"][:2] == ["NA", "name 1"]
    assert marked(got) == as_pandas(path)


@pytest.mark.parametrize("name", ["nyc/weather", "nyc/planes", "weather/birdstrikes", "weather/seattle-weather"])
def test_real_files_are_what_pandas_reads(shared_data: Path, name: str) -> None:
    path = str(shared_data / f"{name}.csv")
    assert marked(read(path, blocksize=400_000)) == as_pandas(path)


@pytest.mark.parametrize(
    ("texts", "kind", "values"),
    [
        (["1", "", "3"], "int64", [1, None, 3]),
        (["9007199254740993", "NA"], "int64", [9007199254740993, None]),
        (["18446744073709551615", "0"], "uint64", [2**64 - 1, 0]),
        (["18446744073709551615", "-1"], "decimal128(38, 0)", [Decimal(2**64 - 1), Decimal(-1)]),
        (["9" * 39, "1"], "string", ["9" * 39, "1"]),
        (["1", "1.5", "null"], "double", [1.0, 1.5, None]),
        (["nan", "inf", "-1e300"], "double", [None, float("inf"), -1e300]),
        (["true", "FALSE", ""], "bool", [True, False, None]),
        (["true", "1"], "string", ["true", "1"]),
        (["0x1F", "12"], "string", ["0x1F", "12"]),
        (["+3", " 4 "], "int64", [3, 4]),
        (["NA", "x"], "string", ["NA", "x"]),
        (["NA", ""], "string", ["NA", None]),
        (["2020-01-01", "2020-01-02"], "string", ["2020-01-01", "2020-01-02"]),
        (['""', "x", ""], "string", ["", "x", None]),
        (['"1"', '""'], "int64", [1, None]),
        (["", ""], "double", [None, None]),
    ],
)
def test_types_are_what_all_values_show(tmp_path: Path, texts: list[str], kind: str, values: list[Any]) -> None:
    path = csv_file(tmp_path, "a,b\n" + "".join(f"{text},1\n" for text in texts))
    assert types(path)[0] == kind
    assert read(path)["a"] == values
    assert read_csv(path=path).schema.field(0).nullable


@pytest.mark.parametrize("kind", ["int8", "uint16", "int64", "float32", "decimal(12, 2)", "string", "category"])
def test_cast_gives_the_type_exactly(tmp_path: Path, kind: str) -> None:
    got = table_of(read_csv(path=csv_file(tmp_path, "a,b\n7,1\n,2\n"), cast={"a": kind}))
    assert got["a"].null_count == 1
    assert str(got["a"][0].as_py()) in {"7", "7.0", "7.00"}


def test_types_are_those_of_the_first_rows_of_every_file(tmp_path: Path) -> None:
    csv_file(tmp_path, "x,y,z\n" + "1,2,\n" * 2000, "a.csv")
    csv_file(tmp_path, "z,y,x\n" + "u,2.5,1\n" * 10, "b.csv")
    csv_file(tmp_path, "x,y,z\n", "c.csv")
    assert types(f"{tmp_path}/*.csv") == ["int64", "double", "string"]


def test_a_text_after_the_first_rows_fails_with_its_line(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "x\n" + "1\n" * 1000 + "u\n")
    assert types(path) == ["int64"]
    with pytest.raises(DataError, match=r"x\.csv:1002: column 'x': 'u' is no int64, its type by the first 1,000 rows"):
        read(path)
    csv_file(tmp_path, "x\n" + "1\n" * 999 + "u\n")
    assert types(path) == ["string"]


@pytest.mark.parametrize("blocksize", [40, None])
@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
@pytest.mark.parametrize(
    ("later", "kind", "cure"),
    [
        ("3.5", "int64", "float64"),
        ("1e3", "int64", "float64"),
        ("lots", "int64", "string"),
        ("0x10", "int64", "string"),
        ("9223372036854775808", "int64", "uint64"),
        ("1" * 30, "int64", r"decimal\(38, 0\)"),
    ],
)
def test_a_value_that_does_not_fit_names_line_and_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: str, kind: str, cure: str, blocksize: int | None, name: str
) -> None:
    short_heads(monkeypatch)
    text = 'a,b\n"1",2\n\n' + "1,2\r\n" * 50 + f"1,NA\n\n1,{later}\n"
    path = csv_file(tmp_path, gzip.compress(text.encode()) if name.endswith("gz") else text, name)
    with pytest.raises(
        DataError, match=rf"{name}:56: column 'b': '{re.escape(later)}' is no {kind}, .*cure: cast: {{b: {cure}}}"
    ):
        read(path, blocksize=blocksize)
    csv_file(tmp_path, text, "y.csv")
    got = read(f"{tmp_path}/y.csv", blocksize=blocksize, cast={"b": cure.replace("\\", "")})
    assert str(got["b"][-1]) in {later, "1000.0"}


def test_lines_inside_quotes_count_for_the_line_of_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short_heads(monkeypatch, 40)
    path = csv_file(tmp_path, 'a,b\n"one\ntwo",2\n' + 'x,"2"\n' * 20 + '"u\r\nv\rw",2\ny,soon\n')
    with pytest.raises(DataError, match=r"x\.csv:27: column 'b': 'soon'"):
        read(path)


@pytest.mark.parametrize("late", ["9007199254740993", "-9007199254740993", "1e999"])
def test_a_number_that_a_float_would_change_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    short_heads(monkeypatch)
    path = csv_file(tmp_path, "a,b\n" + "1,2.5\n" * 9 + f"2,1e300\n2,9007199254740992\n3,{late}\n")
    with pytest.raises(DataError, match=rf"x\.csv:13: column 'b': '{late}' is .*cure: cast: {{b: string}}"):
        read(path)


def test_missing_later_keeps_whole_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short_heads(monkeypatch)
    path = csv_file(tmp_path, "a,b\n" + "1,2\n" * 50 + "1,\n1,NA\n1,9007199254740993\n")
    assert read(path)["b"][-3:] == [None, None, 9007199254740993]


def test_a_row_of_another_length_is_named(tmp_path: Path) -> None:
    for row, n in (("1", 1), ("1,2,3", 3)):
        path = csv_file(tmp_path, f'a,b\n"x\ny",2\n\n{row}\n')
        with pytest.raises(DataError, match=rf"x\.csv:5: has {n} fields, and there are 2 columns; .*strict: false"):
            read(path)


@pytest.mark.parametrize(("text", "cast", "want"), [
    ("2013-03-31T12:00:00", "timestamp", pd.Timestamp("2013-03-31 12:00")),
    ("2013-03-31T12:00:00", "timestamp[Europe/Paris]", pd.Timestamp("2013-03-31 12:00", tz="Europe/Paris")),
    ("2013-03-31T12:00:00+02:00", "timestamp[UTC]", pd.Timestamp("2013-03-31 10:00", tz="UTC")),
    ("2013-03-31", "date", datetime.date(2013, 3, 31)),
    ("1 days 02:00:00", "duration", datetime.timedelta(hours=26)),
])  # fmt: skip
def test_casts_of_text_to_times(tmp_path: Path, text: str, cast: str, want: Any) -> None:
    got = read(csv_file(tmp_path, f"t,n\n{text},1\n,2\n"), cast={"t": cast})
    assert got["t"] == [want, None]


def test_zoned_times_do_not_become_naive(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "t\n2013-03-31T12:00:00Z\n")
    with pytest.raises(DataError, match=r"x\.csv:2: column 't': "):
        read(path, cast={"t": "timestamp"})


@pytest.mark.parametrize(("texts", "line"), [(["2020-01-01", "", "01/02/2020"], 4), (["2020-10-25T02:30"], 2)])
def test_times_that_cannot_be_told_are_named(tmp_path: Path, texts: list[str], line: int) -> None:
    path = csv_file(tmp_path, "\n".join(["t,n", *(f"{text},1" for text in texts)]))
    with pytest.raises(DataError, match=rf"x\.csv:{line}: column 't': .*{texts[-1].replace('T', '.')}"):
        read(path, cast={"t": "timestamp[Europe/Paris]"})


def test_offsets_of_times_may_differ(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "t\n2020-01-01T10:00:00+01:00\n2020-07-01T12:00:00+02:00\n")
    assert [t.hour for t in read(path, cast={"t": "timestamp[UTC]"})["t"]] == [9, 10]


def test_missing_texts_separators_and_quotes(tmp_path: Path) -> None:
    path = csv_file(tmp_path, 'a;b;c\n1;"x; ""y""";-\n2;"line\nbreak";3\n3;None;4\n')
    got = read(path, sep=";", na_values=["-"], blocksize=5)
    assert got == {"a": [1, 2, 3], "b": ['x; "y"', "line\nbreak", "None"], "c": [None, 3, 4]}


def test_a_quoted_break_that_a_block_cuts_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short_heads(monkeypatch)
    path = csv_file(tmp_path, "a,b\n" + "1,x\n" * 20 + '1,"x\n' + "1,x\n" * 20 + '"\n' + "1,x\n" * 20)
    with pytest.raises(DataError, match="a line break inside quotes"):
        read(path, blocksize=100)


@pytest.mark.parametrize(("suffix", "packed"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_packed_files_are_one_block(tmp_path: Path, suffix: str, packed: Callable[[bytes], bytes]) -> None:
    path = csv_file(tmp_path, packed(CSV.encode()), f"x.csv{suffix}")
    assert len(read_csv(path=path, blocksize=100).keys) == 1
    assert marked(read(path)) == as_pandas(path)


def test_several_files_need_the_same_columns(tmp_path: Path) -> None:
    for name, text in (("a", "\ufeff\n\nx,y\n\n"), ("b", '"y",x\n2,1\n\n'), ("c", ""), ("d", "x,y\r\n3,4")):
        csv_file(tmp_path, text, f"{name}.csv")
    for blocksize in (1, 5, None):
        assert read(f"{tmp_path}/*.csv", blocksize=blocksize) == {"x": [1, 3], "y": [2, 4]}
    csv_file(tmp_path, "x,z\n1,2\n", "e.csv")
    with pytest.raises(DataError, match=r"e\.csv: has a column 'z', .*a\.csv has none; .*columns: union"):
        read_csv(path=f"{tmp_path}/*.csv")
    with pytest.raises(DataError, match=r"e\.csv: has no column 'y', .*a\.csv has one"):
        read_csv(path=f"{tmp_path}/*.csv", columns=["x", "y"])
    got = read(f"{tmp_path}/*.csv", columns="union")
    assert got == {"x": [1, 3, 1], "y": [2, 4, None], "z": [None, None, 2]}


def test_columns_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    path = csv_file(tmp_path, CSV)
    frame = read_csv(path=path, columns=["when", "id"], cast={"when": "timestamp[UTC]", "id": "float32"})
    assert [str(kind) for kind in frame.schema.types] == ["timestamp[us, tz=UTC]", "float"]
    assert read_csv(path=path, needed={"x"}).schema.names == ["x"]
    with pytest.raises(OpError, match=r"'nam' is no column of .*did you mean 'name'"):
        read_csv(path=path, columns=["nam"])
    with pytest.raises(OpError, match=r"'nam' is no column of"):
        read_csv(path=path, cast={"nam": "string"})


@pytest.mark.parametrize(("name", "data", "told"), [
    ("x.csv.gz", b"a\n1\n", ": is not a gzip file, or a broken one"),
    ("x.csv.gz", gzip.compress(b"a\n" * 999, mtime=0)[:-9], ": is not a gzip file, or a broken one"),
    ("x.csv", "a\n1\n".encode("utf-16"), ": begins as text in UTF-16 does; cure: encoding: utf-16"),
    ("x.csv", "a\nü\n".encode("latin1"), ":2: column 'a': has what is no UTF-8; cure: its encoding"),
    ("x.csv", "ä\nü\n".encode("latin1"), ":1: has what is no UTF-8; cure: its encoding"),
    ("x.csv", b"a\n" + b"1\n" * 2000 + b"\n\xff\n", ":2003: column 'a': has what is no UTF-8"),
    ("x.csv", b"a,b\n1,x\n2", ":3: has 1 fields, and there are 2 columns"),
    ("x.csv", b"a,a\n1,x\n", ":1: the header has 'a' more than once"),
])  # fmt: skip
def test_a_file_that_is_no_table_says_so(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    with pytest.raises(DataError, match=rf"{re.escape(name)}{told}"):
        read(csv_file(tmp_path, data, name), cast={"a": "string"} if len(data) > 1000 and name == "x.csv" else None)


@pytest.mark.parametrize("text", ["", "x,y\n", "x,y"])
def test_csv_without_rows_is_a_frame_without_rows(tmp_path: Path, text: str) -> None:
    assert read(csv_file(tmp_path, text), columns=["x", "y"]) == {"x": [], "y": []}


@pytest.mark.parametrize("lead", [0, 3])
def test_a_header_may_be_longer_than_what_is_looked_at_first(tmp_path: Path, lead: int) -> None:
    names = [f"column{i:0100}" for i in range(lead * 5 + 3_000)]
    path = csv_file(tmp_path, "title\n" * lead + ",".join(names) + "\n" + ",".join("7" for _ in names) + "\n")
    assert read(path, columns=[names[-1]], skip_rows=lead) == {names[-1]: [7]}


# ---------------------------------------------------------------------------------------------------------------------
# Whatever Python's csv writes
# ---------------------------------------------------------------------------------------------------------------------

letters = st.text(st.sampled_from('ab,"\r\n é1'), max_size=4)
missing = st.none()
rows = st.lists(
    st.tuples(
        letters | missing,
        st.integers(-(2**63), 2**63 - 1) | missing,
        st.floats(allow_nan=False, allow_infinity=False) | missing,
        st.dates() | missing,
    ),
    min_size=1,
    max_size=6,
)


@SETTINGS
@given(rows, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]), st.sampled_from([1, 30, None]))
def test_what_python_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, quoting: Any, blocksize: int | None
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, quoting=quoting, lineterminator="\r\n")
    writer.writerows([("t", "i", "f", "d"), *rows])
    path = csv_file(tmp_path_factory.mktemp("csv"), out.getvalue())
    cast = {"t": "string", "i": "int64", "f": "float64", "d": "date"}
    got = table_of(read_csv(path=path, cast=cast, blocksize=blocksize)).to_pylist()
    have = [tuple(None if x == "" else x for x in row.values()) for row in got]
    assert have == [tuple(None if x == "" else x for x in row) for row in rows]
    with duckdb.connect() as con:
        sniffed = con.sql(
            "select * from read_csv(?, quote='\"', escape='\"', all_varchar=true, strict_mode=false, header=true, "
            "delim=',', null_padding=false, parallel=false)",
            params=[path],
        )
        if "\r" not in out.getvalue().replace("\r\n", "") and "\n" not in "".join(str(row[0]) for row in rows):
            assert [row[1] and int(row[1]) for row in sniffed.fetchall()] == [row[1] for row in rows]


@SETTINGS
@given(st.lists(st.sampled_from(["1", "", "NA", "2.5", "x", "true", "9007199254740993"]), min_size=1, max_size=5))
def test_all_blocks_have_the_same_types(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = csv_file(tmp_path_factory.mktemp("csv"), "a,b\n" + "".join(f"{text},1\n" for text in texts))
    try:
        whole = table_of(read_csv(path=path))
    except DataError as error:
        assert "is a whole number that no float64 equals" in str(error)  # noqa: PT017
        return
    for size in (1, 5, 9):
        frame = read_csv(path=path, blocksize=size)
        assert pa.concat_tables(partitions_of(frame)).equals(whole)


def test_files_without_a_header_are_told_of(tmp_path: Path) -> None:
    for name, text in {"a": "i\n1\n", "b": "", "c": "\n\n"}.items():
        (tmp_path / f"{name}.csv").write_text(text)
    with recorded() as told:
        read_csv(path=str(tmp_path))
        read_csv(path=str(tmp_path / "b.csv"), columns=["i"])
    assert list(told) == [
        f"2 of 3 files have no header, and so no rows: {tmp_path}/b.csv, {tmp_path}/c.csv",
        f"1 file has no header, and so no rows: {tmp_path}/b.csv",
    ]
    with pytest.raises(DataError, match=r"b\.csv: the file is empty; to read no rows name the columns"):
        read_csv(path=str(tmp_path / "b.csv"))
    assert types(str(tmp_path / "b.csv"), cast={"i": "int64"}) == ["int64"]


def test_a_whole_number_that_no_float_equals_fails_in_one_file_and_in_two(tmp_path: Path) -> None:
    csv_file(tmp_path, "a\n9007199254740993\n1.5\n", "one.csv")
    csv_file(tmp_path, "a\n0.5\n", "two.csv")
    said = "one.csv:2: column 'a': '9007199254740993' is a whole number that no float64 equals, and some values of the "
    for path in (f"{tmp_path}/one.csv", f"{tmp_path}/*.csv"):
        assert types(path) == ["double"]
        with pytest.raises(DataError, match=re.escape(said + "column are not whole; cure: cast: {a: string}")):
            read(path)
        assert read(path, cast={"a": "string"})["a"][0] == "9007199254740993"


def test_numbers_that_lose_leading_zeros_are_told_of_once(tmp_path: Path) -> None:
    for name in "ab":
        csv_file(tmp_path, 'zip,n,s\n99999,1,07x\n"01234",0,1\n00007,2,01\n', f"{name}.csv")
    zeros = (
        "column 'zip': 01234 is read as a number, without its leading zeros; cast: {zip: string} keeps it as written"
    )
    for cast, expected in (({}, [zeros]), ({"zip": "int64"}, []), ({"zip": "string"}, [])):
        for _ in range(2):  # the second time from what is remembered of the files
            with recorded() as told:
                read_csv(path=f"{tmp_path}/*.csv", cast=cast)
            assert list(told) == expected


def test_the_type_that_a_message_names_holds_the_value(tmp_path: Path) -> None:
    path = csv_file(tmp_path, 'a\n"1,234"\n"12,34"\n')
    with pytest.raises(DataError, match=r"'12,34' is no int64, its type by cast; cure: cast: {a: string}"):
        read(path, thousands=",", cast={"a": "int64"})
    assert read(path, thousands=",", cast={"a": "string"})["a"] == ["1,234", "12,34"]
