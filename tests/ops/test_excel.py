"""``read_excel``: sheets as partitions, exact types, and faults that name file, sheet and cure."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serially import table_of
from strategies import SETTINGS
from workbooks import write_workbook

from pipeline.errors import DataError, OpError
from pipeline.graph.column_types import type_name
from pipeline.ops.build_warnings import recorded
from pipeline.ops.sources.excel import read_excel

DAY, NOON = datetime.date(2001, 2, 3), datetime.datetime(2001, 2, 4, 12, 30, 15)
SHEET = [
    ["i", "f", "t", "b", "at", "for", "mix", "none"],
    [1, 1.5, "NA", True, DAY, datetime.timedelta(hours=30), 1, None],
    [None] * 8,
    [None, 2, "", None, None, None, "y", None],
    [12345678901, None, None, False, NOON, datetime.timedelta(minutes=5), 1.5, None],
]


def read(path: str, **options: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = table_of(read_excel(path=path, **options)).to_pydict()
    return found


def test_cells_have_the_types_of_their_column(tmp_path: Path) -> None:
    frame = read_excel(path=write_workbook(tmp_path / "x.xlsx", {"s": SHEET}))
    assert [type_name(kind) for kind in frame.schema.types] == [
        *("int64", "float64", "string", "bool", "timestamp", "duration", "string", "float64"),
    ]
    assert table_of(frame).to_pydict() == {
        "i": [1, None, 12345678901],
        "f": [1.5, 2.0, None],
        "t": ["NA", "", None],
        "b": [True, None, False],
        "at": [datetime.datetime(2001, 2, 3), None, NOON],
        "for": [datetime.timedelta(hours=30), None, datetime.timedelta(minutes=5)],
        "mix": ["1", "y", "1.5"],
        "none": [None, None, None],
    }
    assert frame.lengths == (3,)


def test_casts_give_other_types(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "x.xlsx", {"s": [["d", "i", "x"], [DAY, 7, "1.25"], [None, None, None]]})
    frame = read_excel(path=path, cast={"d": "date", "i": "string", "x": "decimal(5, 2)"}, columns=["x", "d", "i"])
    assert [type_name(kind) for kind in frame.schema.types] == ["decimal(5, 2)", "date", "string"]
    assert str(table_of(frame).to_pylist()[0]["x"]) == "1.25"
    assert table_of(frame).to_pylist()[0] | {"x": 0} == {"x": 0, "d": DAY, "i": "7"}
    assert read_excel(path=path, needed={"i"}).schema.names == ["i"]
    path = write_workbook(tmp_path / "y.xlsx", {"my sheet": [["d"], [1.5]]})
    with pytest.raises(DataError, match=r"y\.xlsx, sheet 'my sheet': column 'd' got 1\.5, which does not fit int64"):
        read(path, cast={"d": "int64"})


def test_sheets_and_files_are_partitions(tmp_path: Path) -> None:
    rows = {"Jan": [["a", "b"], [1, "x"]], "Feb": [["b", "a"], ["y", 2.5]], "notes": [["hello"]], "Empty": [["a", "b"]]}
    first, second = (
        write_workbook(tmp_path / "1.xlsx", rows),
        write_workbook(tmp_path / "2.xlsx", {"Mar": [["a", "b"], [3, 4]]}),
    )
    assert read(first) == {"a": [1], "b": ["x"]}
    assert read(first, sheet="Feb") == {"b": ["y"], "a": [2.5]}
    frame = read_excel(path=first, sheet=["Empty", 1, "F*"], source_file="from", source_sheet="month")
    assert len(frame.keys) == 3
    assert table_of(frame).to_pydict() == {"a": [1, 2.5], "b": ["x", "y"], "from": [first] * 2, "month": ["Jan", "Feb"]}
    with pytest.raises(DataError, match=r"sheet 'Mar': column 'b' is int64, in .*1\.xlsx, sheet 'Jan' string"):
        read_excel(path=f"{tmp_path}/*.xlsx")
    assert read(str(tmp_path), cast={"b": "string"}) == {"a": [1, 3], "b": ["x", "4"]}
    with pytest.raises(DataError, match=r"sheet 'notes': has a column 'hello', .*sheet 'Jan' has none.*columns: union"):
        read_excel(path=first, sheet=["Jan", "notes"])
    assert second


def test_the_header_may_stand_anywhere(tmp_path: Path) -> None:
    rows = [[], ["My table"], [], ["a", None, "c"], [1, 2, 3]]
    path = write_workbook(tmp_path / "x.xlsx", {"s": rows, "bare": [[], [1, "x"], [2, "y"]]})
    assert read(path, skip_rows=2) == {"a": [1], "Unnamed: 1": [2], "c": [3]}
    assert read(path, skip_rows=3, names=["x", "y", "z"]) == {"x": [1], "y": [2], "z": [3]}
    assert read(path, sheet="bare", header=False, names=["n", "t"]) == {"n": [1, 2], "t": ["x", "y"]}


def test_cells_with_errors_are_missing_and_noted(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "x.xlsx", {"s": [["a", "b"], [1, "#N/A"], [2, 3], ["#DIV/0!", 4]]})
    with recorded() as warnings:
        frame = read_excel(path=path)
    assert list(warnings) == [f"{path}, sheet 's': 2 cells are errors, which are missing: #N/A in B2"]
    assert table_of(frame).to_pydict() == {"a": [1, 2, None], "b": [None, 3, 4]}


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"sheet": 3}, r"x\.xlsx: has no sheet number 3; it has 2: s, t"),
    ({"sheet": "sh"}, r"x\.xlsx: has no sheet 'sh'"),
    ({"names": ["a"]}, r"x\.xlsx, sheet 's': has 2 columns, and names has 1"),
    ({"sheet": "t"}, r"x\.xlsx, sheet 't': the header has 'a' more than once"),
]


@pytest.mark.parametrize(("options", "told"), FAULTS)
def test_faults_name_file_and_sheet(tmp_path: Path, options: Any, told: str) -> None:
    path = write_workbook(tmp_path / "x.xlsx", {"s": [["a", "b"], [1, 2]], "t": [["a", "a"], [1, 2]]})
    with pytest.raises(DataError, match=told):
        read_excel(path=path, **options)


def test_what_is_no_workbook_is_named(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "x.xlsx", {"s": [["a", "b"], [1, 2]]})
    with pytest.raises(OpError, match="names: header: false needs names"):
        read_excel(path=path, header=False)
    with pytest.raises(OpError, match="source_file: 'a' is a column"):
        read_excel(path=path, source_file="a")
    frame = read_excel(path=path)
    write_workbook(tmp_path / "x.xlsx", {"s": [["a", "c"], [1, 2]]})
    with pytest.raises(DataError, match="sheet 's': has changed since the run was planned"):
        table_of(frame)
    data = Path(path).read_bytes()
    for broken in (b"no workbook", data[: len(data) // 2]):
        (tmp_path / "y.xlsx").write_bytes(broken)
        with pytest.raises(DataError, match=r"y\.xlsx: is no Excel workbook, or a broken one"):
            read_excel(path=str(tmp_path / "y.xlsx"))


texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=4).filter(
    lambda text: not text.startswith("#")
)
rows = st.lists(st.tuples(st.none() | st.integers(-(10**14), 10**14), st.none() | texts), min_size=1, max_size=6)


@SETTINGS
@given(rows, st.integers(0, 3))
def test_what_was_written_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: Any, lead: int) -> None:
    sheet = [*[[]] * lead, ["id", "n", "t"], *([i, *row] for i, row in enumerate(rows))]
    path = write_workbook(tmp_path_factory.mktemp("excel") / "x.xlsx", {"s": sheet})
    got = read(path, cast={"n": "int64", "t": "string"})
    assert list(zip(got["n"], got["t"], strict=True)) == rows
