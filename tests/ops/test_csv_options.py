"""The options of ``read_csv``: how files of other programs are written, each the same whatever the blocks."""

from __future__ import annotations

import bz2
import datetime
import gzip
import lzma
import re
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from csv_files import csv_file, read
from hypothesis import given
from hypothesis import strategies as st
from serially import table_of
from strategies import SETTINGS

from pipeline.errors import DataError, OpError
from pipeline.ops.build_warnings import recorded
from pipeline.ops.sources.csv import read_csv

SIZES = [1, 9, None]
"""Of blocks."""


CASES: list[tuple[str, dict[str, Any], dict[str, list[Any]]]] = [
    ("1,x\n2,y\n", {"header": False, "names": ["a", "b"]}, {"a": [1, 2], "b": ["x", "y"]}),
    ("\ufeff1,x\n2,y\n", {"header": False, "names": ["a", "b"]}, {"a": [1, 2], "b": ["x", "y"]}),
    ("p,q\n1,x\n", {"names": ["a", "b"]}, {"a": [1], "b": ["x"]}),
    ("title\n\na,b\n1,x\n", {"skip_rows": 2}, {"a": [1], "b": ["x"]}),
    ('an "odd quote\r\na,b\r\n1,x\r\n', {"skip_rows": 1}, {"a": [1], "b": ["x"]}),
    ("a,b\n1,x\n2,y\nsum,2\n\n", {"skip_footer": 1}, {"a": [1, 2], "b": ["x", "y"]}),
    ("a,b\n1,x\nsum\ntotal: 3, 4, 5", {"skip_footer": 2}, {"a": [1], "b": ["x"]}),
    ("a,b\nsum,2\n", {"skip_footer": 5}, {"a": [], "b": []}),
    ("# isn't a row\na,b\n1,x\n#2,y\n#\n3,#z\n", {"comment": "#"}, {"a": [1, 3], "b": ["x", "#z"]}),
    ('a,b\n1,"x\n# no comment"\n#"\n2,y\n', {"comment": "#"}, {"a": [1, 2], "b": ["x\n# no comment", "y"]}),
    ("a;b\n1.234,5;-1.234.567\n2;1.000\n", {"sep": ";", "decimal": ",", "thousands": "."},
     {"a": [1234.5, 2.0], "b": [-1234567, 1000]}),
    ('a,b\n"1,234",x\n12,"y,z"\n', {"thousands": ","}, {"a": [1234, 12], "b": ["x", "y,z"]}),
    ("a,b\n1 000,x\n9 007 199 254 740 993,y\n", {"thousands": " "}, {"a": [1000, 2**53 + 1], "b": ["x", "y"]}),
    ("a,b\n'1','it''s, so'\n2,\"y\n", {"quote": "'"}, {"a": [1, 2], "b": ["it's, so", '"y']}),
    ('a,b\n1,"x\n2,5" pipe\n', {"quote": ""}, {"a": [1, 2], "b": ['"x', '5" pipe']}),
    ('a,b\n1,"x \\"so\\", \\\\"\n2,y\\,z\n', {"escape": "\\"}, {"a": [1, 2], "b": ['x "so", \\', "y,z"]}),
    ("a,b\n-,x\nNA,-\n3,none\n", {"na_values": ["-"]}, {"a": [None, None, 3], "b": ["x", None, "none"]}),
    ("a,b\n-,x\n999,-\n3,NA\n", {"na_values": {"a": ["-", "999"]}}, {"a": [None, None, 3], "b": ["x", "-", "NA"]}),
    ("a,b\n1,NA\n2,x\n", {"na_values": {"b": ["NA"]}}, {"a": [1, 2], "b": [None, "x"]}),
]  # fmt: skip


@pytest.mark.parametrize("blocksize", SIZES)
@pytest.mark.parametrize(
    ("text", "options", "want"), CASES, ids=[f"{i}-{'-'.join(o)}" for i, (_, o, _) in enumerate(CASES)]
)
def test_options_give_the_rows(tmp_path: Path, text: str, options: Any, want: Any, blocksize: int | None) -> None:
    assert read(csv_file(tmp_path, text), blocksize=blocksize, **options) == want
    packed = csv_file(tmp_path, gzip.compress(text.encode()), "y.csv.gz")
    assert read(packed, **options) == want
    utf16 = csv_file(tmp_path, text.removeprefix("\ufeff").encode("utf-16"), "z.csv")
    assert read(utf16, encoding="utf-16", blocksize=blocksize, **options) == want


@pytest.mark.parametrize("blocksize", SIZES)
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp500"])
def test_encodings_are_read(tmp_path: Path, encoding: str, blocksize: int | None) -> None:
    path = csv_file(tmp_path, "ä,b\n1,é\n2,ü\n".encode(encoding))
    frame = read_csv(path=path, encoding=encoding, blocksize=blocksize)
    assert table_of(frame).to_pydict() == {"ä": [1, 2], "b": ["é", "ü"]}
    if blocksize == 1:
        assert (len(frame.keys) > 1) == (encoding in ("latin-1", "cp1252", "utf-8-sig"))


def test_asian_text_is_cut_at_lines(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "名,n\n表|示,1\nソ,2\n".encode("shift_jis"))
    assert read(path, encoding="shift_jis", blocksize=3) == {"名": ["表|示", "ソ"], "n": [1, 2]}


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("ascii", "a\n1\n\né\n".encode()),
        ("utf-16", "a\n1\n\n2\n".encode("utf-16")[:-1]),
        ("utf-16-le", "a\n1\n\n".encode("utf-16-le") + b"\x00\xd8\x41\x00"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_wrong_encoding_names_the_line(tmp_path: Path, encoding: str, data: bytes, packed: bool) -> None:
    path = csv_file(tmp_path, gzip.compress(data) if packed else data, "x.csv.gz" if packed else "x.csv")
    with pytest.raises(DataError, match=rf"x\.csv[.gz]*:4: is not text in the encoding {encoding}"):
        read(path, encoding=encoding)


DATES = [
    ({"d": "date"}, "%d.%m.%Y", ["03.02.2001", ""], [datetime.date(2001, 2, 3), None]),
    ({"d": "date"}, ["%d.%m.%Y", "%Y-%m-%d"], ["03.02.2001", "2001-02-03"], [datetime.date(2001, 2, 3)] * 2),
    ({}, {"d": "%m/%d/%y %I:%M %p"}, ["02/03/01 01:30 PM", "NA"], [datetime.datetime(2001, 2, 3, 13, 30), None]),
    ({"d": "timestamp[UTC]"}, {"d": "%Y-%m-%dT%H:%M:%S%z"}, ["2001-02-03T01:00:00+0200"],
     [datetime.datetime(2001, 2, 2, 23, tzinfo=datetime.UTC)]),
    ({"d": "timestamp[ms]"}, "%b %d, %Y", ["Feb 03, 2001"], [datetime.datetime(2001, 2, 3)]),
]  # fmt: skip


@pytest.mark.parametrize(("cast", "form", "texts", "want"), DATES)
def test_dates_are_read_in_their_format(tmp_path: Path, cast: Any, form: Any, texts: list[str], want: Any) -> None:
    text = "i,d\n" + "".join(f'1,"{each}"\n' for each in texts)
    assert read(csv_file(tmp_path, text), cast=cast, date_format=form)["d"] == want


def test_a_date_in_another_format_names_its_line(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "d,e\n01.02.2003,1\n\n31.02.2003,1\n")
    with pytest.raises(
        DataError, match=r"x\.csv:2: column 'd': '01\.02\.2003' is not written as '%Y', its date_format"
    ):
        read(path, date_format={"d": "%Y"})
    missing = "to have it missing: cast: {d: string} and parse_time(d, ['%d.%m.%Y'], errors='missing')"
    written = "x.csv:4: column 'd': '31.02.2003' is written as '%d.%m.%Y', but there is no such time; "
    with pytest.raises(DataError, match=re.escape(written + missing)):
        read(path, date_format={"d": "%d.%m.%Y"})
    with pytest.raises(DataError, match=re.escape("which does not fit date; how it is written says date_format: {d: ")):
        read(path, cast={"d": "date"})
    with recorded() as told:
        assert read(path, date_format="%d.%m.%Y")["d"] == ["01.02.2003", "31.02.2003"]  # no cast: text
    assert list(told) == ["date_format means nothing, since cast makes no column a date or time: cast: {NAME: date}"]


@pytest.mark.parametrize("blocksize", SIZES)
def test_rows_of_another_length_are_filled_or_left_out(
    tmp_path: Path, blocksize: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    text = 'a,b,c\n1,x,2\n2\n\n3,"y,\nz"\n4,x,"2,3",5\n5,,6\n'
    path = csv_file(tmp_path, text)
    got = read(path, strict=False, blocksize=blocksize)
    assert got == {"a": [1, 2, 3, 5], "b": ["x", None, "y,\nz", None], "c": [2, None, None, 6]}
    told = capsys.readouterr().err
    assert "x.csv:3: 2 rows too short, filled with missing values (strict: false)\n" in told
    assert "x.csv:7: 1 row too long, left out (strict: false)\n" in told


def test_rows_know_their_file(tmp_path: Path) -> None:
    first, second = csv_file(tmp_path, "a\n1\n2\n", "a.csv"), csv_file(tmp_path, "a\n3\n", "b.csv")
    frame = read_csv(path=f"{tmp_path}/*.csv", source_file="from", blocksize=2)
    assert table_of(frame).to_pydict() == {"a": [1, 2, 3], "from": [first, first, second]}
    assert not frame.schema.field("from").nullable
    assert read_csv(path=first, source_file="from", needed={"from"}).schema.names == ["a", "from"]
    with pytest.raises(OpError, match="source_file: 'a' is a column of the files"):
        read_csv(path=first, source_file="a")


PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def zipped(path: Path, members: dict[str, str]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return str(path)


@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_files_are_read(tmp_path: Path, suffix: str) -> None:
    text = "a,b\n" + "".join(f"{i},x{i}\n" for i in range(60_000))
    path = csv_file(tmp_path, PACKERS[suffix](text.encode()), f"x.csv{suffix}")
    assert read(path, blocksize=9)["a"] == list(range(60_000))
    assert read(str(tmp_path))["a"][-1] == 59_999
    broken = csv_file(tmp_path, PACKERS[suffix](text.encode())[:-50], f"y.csv{suffix}")
    with pytest.raises(DataError, match=rf"y\.csv{suffix}: is not a .* file, or a broken one"):
        read(broken)


def test_a_zip_archive_of_one_file_is_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.csv.zip", {"in/x.csv": "a\n1\n", "__MACOSX/x": "?"})
    assert read(path) == {"a": [1]}
    with pytest.raises(DataError, match=r"y\.zip: has 2 files: a, b; an archive that is read has one"):
        read(zipped(tmp_path / "y.zip", {"a": "a\n1\n", "b": ""}))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"header": False}, "names: header: false needs names"),
        ({"header": False, "names": ["a", "a"]}, "names: 'a' is named twice"),
        ({"encoding": "klingon"}, "encoding: 'klingon' is no encoding"),
        ({"encoding": "base64"}, "encoding: 'base64' is no encoding"),
        ({"quote": ","}, "quote: got ',', which is sep as well"),
        ({"comment": '"'}, "comment: got '\"', which is quote as well"),
        ({"escape": "é"}, "escape: got 'é'; it is one ASCII character"),
        ({"thousands": "."}, "thousands: got '.'; it is one character, .* not decimal"),
        ({"thousands": "1"}, "thousands: got '1'"),
        ({"date_format": "d.m.Y"}, "date_format: got 'd.m.Y'; it is written as"),
        ({"date_format": {"a": "%Q"}}, "date_format: got '%Q'"),
        ({"date_format": {"z": "%Y"}}, "'z' is no column"),
        ({"na_values": {"z": ["-"]}}, "'z' is no column"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: Any, told: str) -> None:
    with pytest.raises(OpError, match=told):
        read_csv(path=csv_file(tmp_path, "a,b\n1,2\n"), **options)


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("a,b\n1,2\n", {"names": ["a"]}, r"x\.csv:1: has 2 columns, and names has 1"),
        ("a,b\n1,2,3\n", {"header": False, "names": ["a", "b"]}, r"x\.csv:2: has 3 fields, and there are 2 columns"),
        ("a,b\n" + "1,2\n" * 1000 + '"1,23",2\n', {"thousands": ","}, r"x\.csv:1002: column 'a': '1,23' is no int64"),
        (
            "t\n#\na,b\n" + "#\n1,2\n" * 1000 + "#\nx,2\n",
            {"comment": "#", "skip_rows": 1},
            r"x\.csv:2005: column 'a': 'x'",
        ),
    ],
)
@pytest.mark.parametrize("blocksize", [500, None])
def test_faults_name_the_line_of_the_file(
    tmp_path: Path, text: str, options: Any, told: str, blocksize: int | None
) -> None:
    with pytest.raises(DataError, match=told):
        read(csv_file(tmp_path, text), blocksize=blocksize, **options)


cells = st.text(st.sampled_from("ab 'é\\#;|"), max_size=4)
numbers = st.integers(-(10**15), 10**15)


def german(number: Any) -> str:
    return f"{number:,}".translate(str.maketrans(",.", ".,"))


@SETTINGS
@given(
    rows=st.lists(st.tuples(cells, numbers, st.decimals(-(10**9), 10**9, places=2)), min_size=1, max_size=5),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "latin-1", "utf-16"]),
    extra=st.integers(0, 2),
    blocksize=st.sampled_from([1, 20, None]),
)
def test_a_german_table_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, end: str, encoding: str, extra: int, blocksize: int | None
) -> None:
    lines = ["Titel; 'x"] * extra
    for text, number, price in rows:
        quoted = text.replace("'", "''")
        lines += ["# Anmerkung; 'y", f"'{quoted}';{german(number)};{german(price)}"]
    lines += ["Summe;"] * extra
    path = csv_file(tmp_path_factory.mktemp("csv"), "".join(line + end for line in lines).encode(encoding))
    frame = read_csv(
        path=path, sep=";", quote="'", comment="#", header=False, names=["t", "n", "p"], skip_rows=extra,
        skip_footer=extra, encoding=encoding, decimal=",", thousands=".", blocksize=blocksize,
        cast={"t": "string", "n": "int64", "p": "decimal(20, 2)"},
    )  # fmt: skip
    assert [tuple(row.values()) for row in table_of(frame).to_pylist()] == [(t, n, Decimal(p)) for t, n, p in rows]
