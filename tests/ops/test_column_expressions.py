"""Expressions over columns that are drawn: the same as over arrays, as Python's texts, and as exact decimals."""

from __future__ import annotations

import operator
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SETTINGS
from test_expression_values import over_columns, over_numpy, table_of_arrays

from pipeline.config.expressions.expression import parse
from pipeline.errors import DataError, OpError
from pipeline.ops.frames.columns import columns_of, field_of_expression, sql_of

NAN = float("nan")
DATA: dict[str, Any] = {
    "x": np.array([1.0, NAN, -3.5, 4.0, 0.0, -0.0, 1e300, np.inf, -np.inf, 2.0**53]),
    "y": np.array([2.0, 2.0, NAN, 4.0, 0.0, 3.0, -1e300, np.inf, 1.0, -7.25]),
    "i": np.array([1, -7, 3, 4, 0, 9, -1, 2, 5, 6], np.int64),
    "u": np.array([1, 2, 3, 4, 250, 0, 7, 9, 255, 5], np.uint8),
    "b": np.array([True, False, True, False, True, True, False, False, True, False]),
}


def numbers(depth: int) -> st.SearchStrategy[str]:
    leaf = st.sampled_from(["x", "y", "i", "u", "2", "0.5", "-3", "nan"])
    if not depth:
        return leaf
    a, c = numbers(depth - 1), conditions(depth - 1)
    return st.one_of(
        leaf,
        st.builds("({} {} {})".format, a, st.sampled_from(["+", "-", "*", "/"]), a),
        st.builds("({} {} {})".format, a, st.sampled_from(["//", "%"]), st.sampled_from(["3", "-2", "0.75", "y"])),
        st.builds("{}({})".format, st.sampled_from(["-", "abs", "floor", "ceil", "sign", "round", "number"]), a),
        st.builds("{}({}, {})".format, st.sampled_from(["minimum", "maximum", "fill"]), a, a),
        st.builds("where({}, {}, {})".format, c, a, a),
        st.builds("clip({}, -2, 3)".format, a),
        st.builds("number({})".format, c),
    )


def conditions(depth: int) -> st.SearchStrategy[str]:
    leaf = st.sampled_from(["b", "x > 1", "i != 4", "missing(x)", "not b"])
    if not depth:
        return leaf
    a, c = numbers(depth - 1), conditions(depth - 1)
    return st.one_of(
        leaf,
        st.builds("({} {} {})".format, a, st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), a),
        st.builds("({} {} {})".format, c, st.sampled_from(["and", "or"]), c),
        st.builds("({} {} [1, 4.0, -3.5, 250])".format, a, st.sampled_from(["in", "not in"])),
        st.builds("(not {})".format, c),
        st.builds("{}({})".format, st.sampled_from(["missing", "isfinite", "boolean"]), a),
        st.builds("(-4 < {} <= {})".format, a, a),
    )


@SETTINGS
@given(text=st.one_of(numbers(3), conditions(3)))
def test_drawn_expressions_are_the_same_over_arrays(text: str) -> None:
    try:
        wanted = np.broadcast_to(over_numpy(text, DATA), (10,))
    except ValueError:
        with pytest.raises(OpError):
            over_columns(text, table_of_arrays(DATA))
        return
    except DataError:  # a whole number that is missing, or divided by zero
        return
    got = over_columns(text, table_of_arrays(DATA))
    assert got.type == pa.from_numpy_dtype(wanted.dtype), text
    assert got.to_pylist() == [None if v != v else v for v in wanted.tolist()], text


def all_over_columns(texts: list[str], table: pa.Table) -> list[pa.ChunkedArray]:
    """The columns that expressions give, by one statement."""
    parsed = [parse(text, "columns") for text in texts]
    return columns_of(table, [(e, field_of_expression("x", e, table.schema).type) for e in parsed], ())


# ---------------------------------------------------------------------------------------------------------------------
# Texts
# ---------------------------------------------------------------------------------------------------------------------

TEXTS = ["", "a", "Ab-1", " x\t", "ÄöÜ", "日本語", "a-b-c", "-", "é🤦🏼x", "\u00a0n\u3000", "it's", "a\nb", "NA"]
words = st.one_of(st.sampled_from(TEXTS), st.text(st.sampled_from("ab-Ä \t'日"), max_size=5))


@SETTINGS
@given(values=st.lists(st.none() | words, max_size=6), i=st.integers(-4, 4), j=st.integers(-4, 4), part=words)
def test_functions_of_texts_are_pythons(values: list[Any], i: int, j: int, part: str) -> None:
    table = pa.table({"s": pa.array(values, pa.string())})
    quoted = part.replace("'", "\\'")
    cases: dict[str, Any] = {
        "lower(s)": str.lower, "upper(s)": str.upper, "strip(s)": str.strip, "length(s)": len,
        f"slice(s, {i})": lambda s: s[i:], f"slice(s, {i}, {j})": lambda s: s[i:j],
        "concat(s, '/', s)": lambda s: f"{s}/{s}", "split(s, '-', 0)": lambda s: s.split("-")[0],
        f"split(s, '-', {i})": lambda s: s.split("-")[i] if -len(s.split("-")) <= i < len(s.split("-")) else None,
        "replace(s, 'a', 'xx')": lambda s: s.replace("a", "xx"), "fill(s, '?')": lambda s: s,
    }  # fmt: skip
    if "\n" not in part and "\t" not in part:
        cases |= {
            f"contains(s, '{quoted}')": lambda s: part in s, f"startswith(s, '{quoted}')": lambda s: s.startswith(part),
            f"endswith(s, '{quoted}')": lambda s: s.endswith(part), f"s < '{quoted}'": lambda s: s < part,
            f"s == '{quoted}'": lambda s: s == part, f"s in ['{quoted}', 'a']": lambda s: s in (part, "a"),
            f"s not in ['{quoted}', 'a']": lambda s: s not in (part, "a"),
        }  # fmt: skip
    for got, (text, function) in zip(all_over_columns(list(cases), table), cases.items(), strict=True):
        missing = False if got.type == pa.bool_() else "?" if "fill" in text else None
        assert got.to_pylist() == [missing if s is None else function(s) for s in values], text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (r"match(s, '[a-z]+')", [True, False, False, False]),
        (r"match(s, 'a|b')", [True, False, False, False]),
        (r"match(s, '\w+$')", [True, False, True, False]),  # ASCII only
        (r"extract(s, '(\d+)')", ["1", None, "22", None]),
        (r"extract(s, '\d')", ["1", None, "2", None]),
        (r"extract(s, '(?P<n>\d)x')", [None, None, None, None]),
        ("replace(s, '2', '.')", ["a1", "É", "..", None]),
    ],
)
def test_regular_expressions_are_re2(text: str, wanted: list[Any]) -> None:
    table = pa.table({"s": ["a1", "É", "22", None]})
    assert over_columns(text, table).to_pylist() == wanted


def test_text_holds_every_character() -> None:
    table = pa.table({"s": ["a\0b", "x"]})
    assert over_columns("s == ${q}", table, "a\0b").to_pylist() == [True, False]
    assert over_columns("concat(s, ${q})", table, "'\0").to_pylist() == ["a\0b'\0", "x'\0"]


# ---------------------------------------------------------------------------------------------------------------------
# Decimals
# ---------------------------------------------------------------------------------------------------------------------


@st.composite
def decimals(draw: st.DrawFn) -> tuple[pa.DataType, Decimal]:
    precision = draw(st.integers(1, 18))
    scale = draw(st.integers(0, precision))
    whole = draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    return pa.decimal128(precision, scale), Decimal(whole).scaleb(-scale)


EXACT: dict[str, Any] = {
    "a + b": operator.add,
    "a - b": operator.sub,
    "a * b": operator.mul,
    "-a": lambda a, b: -a,
    "a // b": lambda a, b: None if not b else Decimal((Fraction(a) / Fraction(b)).__floor__()),
    "a % b": lambda a, b: None if not b else a - b * Decimal((Fraction(a) / Fraction(b)).__floor__()),
    "minimum(a, b)": min,
    "maximum(a, b)": max,
    "where(a > b, a, b)": max,
    "a + 1": lambda a, b: a + 1,
    "a * 0.25": lambda a, b: a * Decimal("0.25"),
    "round(a, 1)": lambda a, b: round(a, 1),
    "round(a)": lambda a, b: round(a, 0),
    "abs(a)": lambda a, b: abs(a),
    "floor(a)": lambda a, b: Decimal(Fraction(a).__floor__()),
    "integer(a)": lambda a, b: int(a),
    "a < b": operator.lt,
    "a == b": operator.eq,
    "a >= 0.5": lambda a, b: a >= Decimal("0.5"),
    "a / 4": lambda a, b: float(a) / 4,
    "text(a)": lambda a, b: f"{a:f}",
}


@SETTINGS
@given(one=decimals(), other=decimals())
def test_decimals_are_exact(one: Any, other: Any) -> None:
    table = pa.table({"a": pa.array([one[1], None], one[0]), "b": pa.array([other[1], other[1]], other[0])})
    with localcontext() as context:
        context.prec = 100
        for column, (text, exact) in zip(all_over_columns(list(EXACT), table), EXACT.items(), strict=True):
            got, missing = column.to_pylist()
            assert got == exact(one[1], other[1]), (text, one, other)
            assert text.startswith("where") or missing in (None, False), text


@pytest.mark.parametrize(
    "text",
    ["fill(1 / {}, 1)", "({} // i + i)", "minimum({}, x + 1)", "round({}, 2)", "where({} > x, i, 3)", "({} % 7 + 8)"],
)
def test_nested_expressions_stay_short(text: str) -> None:
    nested = "x" if "x" in text or "fill" in text else "i"
    for _ in range(20):
        nested = text.format(nested)
    table = pa.table({"x": [1.5, 2.0, None], "i": [3, 4, None]})
    typed = sql_of(parse(nested, "columns"), table.schema)
    assert len(typed.sql) < 10_000
    assert len(over_columns(nested, table)) == 3


def test_a_zero_counts_among_decimals_below_one() -> None:
    values = [Decimal("-0.5"), Decimal(0), Decimal("0.25"), None]
    for kind in (pa.decimal128(4, 4), pa.decimal128(38, 38)):
        table = pa.table({"a": pa.array(values, kind)})
        truths = {
            "a < 0": [True, False, False, False], "a >= 0": [False, True, True, False],
            "0 == a": [False, True, False, False],
            "a in [0, 1]": [False, True, False, False], "boolean(a)": [True, False, True, False],
            "a < 1": [True, True, True, False], "a < 0.0": [True, False, False, False], "a <= -1": [False] * 4,
        }  # fmt: skip
        chosen = {
            "maximum(a, 0)": [Decimal(0), Decimal(0), Decimal("0.25"), None],
            "clip(a, 0, 0.1)": [Decimal(0), Decimal(0), Decimal("0.1"), None],
            "fill(a, 0)": [*values[:3], Decimal(0)],
            "where(a > 0, a, 0)": [Decimal(0), Decimal(0), Decimal("0.25"), Decimal(0)],
        }
        for (text, wanted), got in zip(
            (truths | chosen).items(), all_over_columns([*truths, *chosen], table), strict=True
        ):
            assert got.to_pylist() == wanted, text


def test_constants_with_more_digits_than_a_decimal_are_compared_exactly() -> None:
    table = pa.table(
        {
            "a": pa.array([Decimal("-0.9999"), Decimal(0), Decimal("0.9999")], pa.decimal128(4, 4)),
            "z": pa.array([Decimal(0), Decimal(1), Decimal(-1)], pa.decimal128(5, 0)),
        }
    )
    wanted = {
        "z == 1.0": [False, True, False], "z in [0.0, 1.0]": [True, True, False], "z != -1.0": [True, True, False],
        "a == 1e-300": [False] * 3, "a < 1e-300": [True, True, False], "a > -1e-300": [False, True, True],
        "a > -0.99995": [True] * 3, "a <= -0.99985": [True, False, False], "a >= 0.99985": [False, False, True],
    }  # fmt: skip
    for (text, truths), got in zip(wanted.items(), all_over_columns([*wanted], table), strict=True):
        assert got.to_pylist() == truths, text


def test_decimals_of_38_digits_after_the_point_are_rounded_and_divided() -> None:
    values = [Decimal("0." + "5" * 38), Decimal("-0." + "9" * 38), Decimal(0), None]
    table = pa.table(
        {
            "m": pa.array(values, pa.decimal128(38, 38)),
            "a": pa.array([Decimal("0.5"), Decimal("-0.9999"), Decimal(0), None], pa.decimal128(4, 4)),
        }
    )
    wanted = {
        "m % 0.5": [Decimal("0.0" + "5" * 37), Decimal("0." + "0" * 37 + "1"), 0, None],
        "round(m, 2)": [Decimal("0.56"), -1, 0, None], "round(m)": [1, -1, 0, None], "round(m, 38)": values,
        "floor(m)": [0, -1, 0, None], "ceil(m)": [1, 0, 0, None],
        "sign(m)": [1, -1, 0, None], "sign(a)": [1, -1, 0, None],
    }  # fmt: skip
    for (text, numbers), got in zip(wanted.items(), all_over_columns([*wanted], table), strict=True):
        assert got.to_pylist() == numbers, text
