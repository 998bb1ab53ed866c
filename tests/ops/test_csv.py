"""CSV files as other systems, and damage, leave them: the ends of lines, quotes, zero bytes."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import rows_of

from pipeline.errors import DataError
from pipeline.ops.sources.csv import read_csv
from pipeline.ops.sources.json import read_json
from pipeline.ops.sources.text_blocks import n_lines

ROWS = [["1", "x"], ["22", "a,b"], ["3", 'say ""so""'], ["4", "é"], ["5", ""]]
ENDS = ["\n", "\r\n", "\r"]


def written(folder: Path, text: str, name: str = "a.csv") -> str:
    data = text.encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(folder / name)


def read(path: str, **options: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = rows_of(read_csv(path=path, **options)).to_dict("list")
    return found


def short_heads(monkeypatch: pytest.MonkeyPatch, n: int = 20) -> None:
    """Types come from the first bytes only."""
    for name in ("_HEAD", "SAMPLE"):
        monkeypatch.setattr(f"pipeline.ops.sources.csv_heads.{name}", n)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("blocksize", [1, 7, None])
@pytest.mark.parametrize("end", [*ENDS, "mixed", "\r\r"])
def test_any_end_of_line_is_read(tmp_path: Path, end: str, blocksize: int | None, name: str) -> None:
    lines = ["a,b", *(f'{a},"{b}"' for a, b in ROWS)]
    ends = [ENDS[i % 3] if end == "mixed" else end for i in range(len(lines))]
    path = written(tmp_path, "".join(line + mark for line, mark in zip(lines, ends, strict=True)), name)
    got = read(path, blocksize=blocksize)
    assert got["a"] == [1, 22, 3, 4, 5]
    assert got["b"][:4] == ["x", "a,b", 'say "so"', "é"]


@pytest.mark.parametrize("end", ENDS)
def test_a_header_alone_has_no_rows(tmp_path: Path, end: str) -> None:
    assert read(written(tmp_path, f"a,b{end}")) == {"a": [], "b": []}


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a,b\n1,x\n2,"y\n3,z\n4,w\n', 3),
        ('a,b\r1,x\r2,"y\r3,z\r', 3),
        ('a,b\r\n1,"x\r\ny"\r\n2,"y\r\n', 4),
        ('a,b\n1,"x\n2,y\n3,"z"\n', 2),  # it would end at the first quote of line 4
        ('a,b\n"1,x\n2,y\n"3,z\n', 2),
        ('a,b\n1,"x""\n2,y\n', 2),
        ('a,"b\n1,x\n', 1),
        ('a,"b\n1,"x"\n', 1),
    ],
)
def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path: Path, text: str, line: int, name: str) -> None:
    path = written(tmp_path, text, name)
    with pytest.raises(DataError, match=rf"{name}:{line}: has a quote that is never closed"):
        read(path)


def test_a_later_block_names_the_line_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short_heads(monkeypatch)
    lines = ["a,b", *["1,x"] * 50, '2,"y', *["1,x"] * 50]
    path = written(tmp_path, "\n".join(lines))
    with pytest.raises(DataError, match=r"a\.csv:52: has a quote that is never closed"):
        read(path)


def test_quotes_that_are_legal_are_read(tmp_path: Path) -> None:
    text = 'a,b\n1,"x\ny"\n2,"""so"", he ""said"""\n3,5" pipe\n4,"say" so\n5,a""b\n6,""\n"7","\r\n"\n'
    assert read(written(tmp_path, text))["b"][:5] == ["x\ny", '"so", he "said"', '5" pipe', "say so", 'a""b']
    assert read(written(tmp_path, text))["a"] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("text", ["a,b\n1,x\n2,\0\0\n", "a\0,b\n1,2\n"])
def test_zero_bytes_are_no_text(tmp_path: Path, text: str) -> None:
    line = text[: text.index("\0")].count("\n") + 1
    with pytest.raises(DataError, match=rf"a\.csv:{line}: has a zero byte"):
        read(written(tmp_path, text))


@pytest.mark.parametrize("blocksize", [1, 9, None])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_json_end_in_any_way(tmp_path: Path, end: str, blocksize: int | None) -> None:
    path = written(tmp_path, "".join(f'{{"a": {i}}}{end}' for i in range(9)), "a.jsonl")
    frame = read_json(path=path, blocksize=blocksize)
    assert rows_of(frame)["a"].tolist() == list(range(9))
    assert len(frame.keys) > 1 or blocksize is None


fields = st.text(st.sampled_from('ab,"\r\n é'), max_size=5)


@given(rows=st.lists(st.tuples(fields, fields), min_size=1, max_size=5), end=st.sampled_from(ENDS))
def test_what_is_quoted_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: Any, end: str) -> None:
    folder = tmp_path_factory.mktemp("csv")
    quoted = [",".join('"' + field.replace('"', '""') + '"' for field in row) for row in [("p", "q"), *rows]]
    path = written(folder, end.join(quoted))
    got = rows_of(read_csv(path=path, cast={"p": "string", "q": "string"}))
    assert list(got.itertuples(index=False, name=None)) == rows


@given(pieces=st.lists(st.sampled_from(["a", "\r", "\n"]), max_size=12), stop=st.integers(0, 12))
def test_lines_before_a_byte_are_counted(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], stop: int
) -> None:
    text = "".join(pieces)
    path = written(tmp_path_factory.mktemp("lines"), text)
    starts, at = [], 0
    for line in text.encode().splitlines(keepends=True):
        starts.append(at)
        at += len(line)
    assert n_lines(path, {}, min(stop, len(text))) == sum(start < min(stop, len(text)) for start in starts)
