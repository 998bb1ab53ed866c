"""The expression language: what it accepts, what it makes of it, and what it refuses with which hint."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.expressions.expression import Expression, bind, parse
from pipeline.config.expressions.functions import AGGREGATES, FUNCTIONS, Scope, name_hint
from pipeline.config.expressions.references import ExpressionError, PickText, ReferenceText, parse_reference
from pipeline.config.expressions.tree import (
    Binary,
    Boolean,
    BoundValue,
    Call,
    Compare,
    Constant,
    Membership,
    Name,
    Placeholder,
    Unary,
    render,
    walk,
)
from pipeline.config.signatures import OPS
from pipeline.config.step_syntax import _unknown_op

A, B, C = Name("a"), Name("b"), Name("c")


def refusal(text: str, scope: Scope = "columns") -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        parse(text, scope)
    return caught.value


# ---------------------------------------------------------------------------------------------------------------------
# What is accepted
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("-a ** 2", Unary("-", Binary("**", A, Constant(2)))),
        ("a ** -b", Binary("**", A, Unary("-", B))),
        ("a + b * c", Binary("+", A, Binary("*", B, C))),
        ("a - b - c", Binary("-", Binary("-", A, B), C)),
        ("a // b % c / a", Binary("/", Binary("%", Binary("//", A, B), C), A)),
        ("a + b < c", Compare(Binary("+", A, B), ("<",), (C,))),
        ("0 < a <= 5", Compare(Constant(0), ("<", "<="), (A, Constant(5)))),
        ("not a == b", Unary("not", Compare(A, ("==",), (B,)))),
        ("a or b and not c", Boolean("or", (A, Boolean("and", (B, Unary("not", C)))))),
        ("a in ['x', 'y']", Membership(A, (Constant("x"), Constant("y")))),
        ("a not in (1, -2)", Membership(A, (Constant(1), Constant(-2)), negated=True)),
        ("a in ${names}", Membership(A, (Placeholder("names"),), listed=True)),
        ("a == ${x.y}", Compare(A, ("==",), (Placeholder("x.y"),))),
        ("where(a, b, c)", Call("where", (A, B, C))),
        ("round(a, n=2)", Call("round", (A, Constant(2)))),
        ("`odd name` + größe", Binary("+", Name("odd name"), Name("größe"))),
        ("class + import", Binary("+", Name("class"), Name("import"))),
        (r"match(a, '\d+')", Call("match", (A, Constant(r"\d+")))),
        (r"a == 'it\'s'", Compare(A, ("==",), (Constant("it's"),))),
        ("a == '$${x}'", Compare(A, ("==",), (Constant("${x}"),))),
        ("a\n  + b", Binary("+", A, B)),
        ("a < date('1995-03-15')", Compare(A, ("<",), (Constant(datetime(1995, 3, 15)),))),
        (
            "a < timestamp('1995-03-15T12:00Z')",
            Compare(A, ("<",), (Constant(datetime(1995, 3, 15, 12, tzinfo=UTC)),)),
        ),
        ("a + duration('1h 30min')", Binary("+", A, Constant(timedelta(minutes=90)))),
        ("a * (1 + 2)", Binary("*", A, Constant(3))),
        (
            "localize(a, 'Europe/Paris', ambiguous=True)",
            Call("localize", (A, Constant("Europe/Paris")), (("ambiguous", Constant(True)),)),
        ),
    ],
)
def test_a_text_becomes_its_tree(text: str, root: object) -> None:
    assert parse(text, "columns").root == root


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("2 ** -1", 0.5),
        ("7 // 2 == 3 and 7 % 2 == 1", True),
        ("'t2m' in ['t2m', 'tp']", True),
        ("1 < 2 < 2", False),
        ("date('2020-01-02') - date('2020-01-01') == duration('1d')", True),
        ("not 'a' == 'b'", True),
    ],
)
def test_constants_are_folded(text: str, value: object) -> None:
    assert parse(text, "columns").constant == Constant(value)


@pytest.mark.parametrize("text", ["sum(a * (1 - b))", "count()", "quantile(a, 0.9)", "std(a, 1)", "any(a > 1)"])
def test_an_agg_is_one_aggregate_of_an_expression(text: str) -> None:
    root = parse(text, "agg").root
    assert isinstance(root, Call)
    assert root.function in AGGREGATES


def test_an_agg_may_be_an_expression_of_aggregates() -> None:
    root = parse("where(count() > 1, sum(a) / sum(b), 0)", "agg").root
    assert [call.function for call in walk(root) if isinstance(call, Call)] == ["where", "count", "sum", "sum"]


def test_an_aggregate_takes_any_expression_of_columns() -> None:
    product = Binary("*", A, Binary("-", Constant(1), B))
    assert parse("sum(a * (1 - b))", "agg").root == Call("sum", (product,))


def test_an_expression_knows_its_names_and_what_is_outside() -> None:
    e = parse("a > ${x} and b == ${y.z} and a < ${x}", "columns")
    assert e.names == {"a", "b"}
    assert e.placeholders == ("x", "y.z")
    assert (e.text_column("b"), e.text_column("x"), e.text_column("nothing")) == (14, 5, 0)


def test_references_are_found_in_the_expression_of_arrays() -> None:
    e = parse('svd.u[component=0:2] * tas[A1B] + fit[alpha=0.1, fold="01"] - tas[ A1B ]', "arrays")
    assert [str(r) for r in e.step_references] == ["svd.u[component=0:2]", "tas[A1B]", 'fit[alpha=0.1, fold="01"]']
    assert e.text_column("tas") == 24


def test_an_expression_travels_between_processes() -> None:
    e = parse("where(a in [1, 2], b, ${c})", "columns")
    assert pickle.loads(pickle.dumps(e)) == e


def test_parsing_imports_neither_numpy_nor_dask() -> None:
    code = (
        "import sys; from pipeline.config.expressions.expression import parse; parse('a > 1', 'columns'); "
        "print({'numpy', 'dask', 'pandas', 'xarray'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---------------------------------------------------------------------------------------------------------------------
# What is refused, where, and with which cure
# ---------------------------------------------------------------------------------------------------------------------


def test_the_message_for_an_ampersand_rewrites_the_whole() -> None:
    assert str(refusal("l_tax>0 & l_tax<1")) == (
        "column 9: got '&', which binds tighter than '>'; write 'and': (l_tax > 0) and (l_tax < 1)"
    )


@pytest.mark.parametrize(
    ("text", "column", "cure"),
    [
        ("a > 1 | b", 7, "write 'or'"),
        ("a && b", 3, "write 'and'"),
        ("~a", 1, "write 'not'"),
        ("a ^ 2", 3, "write '**'"),
        ("a @ b", 3, "a step of its own, so that it has a name: {op: matmul, left: a, right: b}"),
        ("a if b else c", 3, "where(condition, a, b)"),
        ("if(a, b, c)", 1, "where(condition, a, b)"),
        ("a is None", 3, "missing(x)"),
        ("a is not None", 3, "not missing(x)"),
        ("a == None", 6, "missing(x)"),
        ("a = 1", 3, "write '=='"),
        ("where(a = 1, b, c)", 9, "write '=='"),
        ("t.hour + 1", 1, "write hour(t)"),
        ("s.str.lower()", 1, "write lower(s)"),
        ("np.sqrt(a)", 1, "sqrt(…)"),
        ("a.__class__", 1, "no attributes"),
        ("(a).b", 4, "no attributes"),
        ("[x for x in a]", 4, "every element at once"),
        ("lambda: a", 1, "map_blocks"),
        ("a := 1", 3, "a step of its own"),
        ("a[0]", 1, "picked"),
        ("(a + b)[0]", 8, "brackets directly follow"),
        ("{1: 2}", 1, "${name}"),
        ("f'{a}'", 1, "no prefix"),
        ("a == 'O'Hare'", 9, "a ' within '…' is written"),
        ("a # b", 3, "'#'"),
        ("a; b", 2, "';'"),
        ("a, b", 1, "after 'in'"),
        ("a in b", 6, "which takes a list"),
        ("a in [1, b]", 10, "which takes constants"),
        ("1 < a in [1]", 10, "join the parts with 'and'"),
        ("'${x}' == a", 1, "without quotes"),
        ("$x + 1", 1, "${name}"),
        ("a ≤ 1", 3, "'<='"),
        ("a == ‘x’", 6, "straight quotes"),
        ("(a", 1, "not closed"),
        ("a)", 2, "no opening bracket"),
        ("a)+(b", 2, "no opening bracket"),
        ("'abc", 1, "no closing quote"),
        ("0x1F", 1, "not a valid number"),
        ("a b", 1, "an operator is missing between two values"),
        ("row_number() over (order by a)", 1, "got 'over'; write a step of op window"),
        ("cast(a as float)", 6, "got 'cast'; write number(x)"),
        ("a +", 3, "nothing follows '+'"),
        ("a > 1 and ", 7, "nothing follows 'and'"),
        ("", 1, "empty"),
        ("flor(a)", 1, "did you mean 'floor'?"),
        ("isnull(a)", 1, "missing(x)"),
        ("a + len(b)", 5, "length(s)"),
        ("max(a, b)", 1, "maximum(a, b)"),
        ("sum(a)", 1, "agg of a groupby"),
        ("coord(a, 'x')", 1, "for arrays"),
        ("__import__('os')", 1, "unknown function"),
        ("lower(a)(b)", 1, "bare name"),
        ("abs(a, b)", 1, "abs(x)"),
        ("abs(*a)", 5, "one by one"),
        ("clip(a)", 1, "got 1 argument; write clip(x, lo, hi)"),
        ("round(a, b)", 1, "must be a constant"),
        ("round(a, 1.5)", 1, "whole number"),
        ("date('1995-13-01')", 1, "'1995-03-15'"),
        ("duration('5 parsecs')", 1, "'5min'"),
        ("match(a, '(')", 1, "regular expression"),
        ("localize(a, 'Europe/Pariss')", 1, "not a known time zone"),
        ("localize(a, 'UTC', ambiguous='infer')", 1, "one of"),
        ("'a' < 1", 1, "number(x)"),
        ("date('2020-01-01') < '2020'", 1, "date("),
        ("date('2020-01-01') < timestamp('2020-01-01T00:00Z')", 1, "localize"),
        ("'a' + 'b'", 1, "concat(a, b)"),
        ("1 and 2", 1, "true or false"),
        ("1 / 0", 1, "divides by zero"),
        ("(-8) ** 0.5", 1, "complex"),
        ("1e999", 1, "too large"),
    ],
)
def test_a_refusal_names_the_place_and_the_cure(text: str, column: int, cure: str) -> None:
    error = refusal(text)
    assert cure in error.message
    assert error.column == column


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("tas - mean(tas)", "{op: mean, input: …}"),
        ("tas.mean()", "{op: mean, input: …}"),
        ("tas[time=0:4].u", "tas.u[time=0:4]"),
        ("tas[time=1991-01:2020]", "op: sel"),
        ("tas[0:3]", "time=0:3"),
        ("`tas`", "without backticks"),
        ("lower(tas)", "columns and coordinates"),
        ("localize(tas, 'UTC')", "columns and coordinates"),
        ("coord(1, 'x')", "must be a step"),
    ],
)
def test_a_refusal_in_arrays_names_the_cure(text: str, cure: str) -> None:
    assert cure in refusal(text, "arrays").message


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("a", "needs an aggregate"),
        ("1 + 2", "needs an aggregate"),
        ("sum(a) / b", "'b' is outside of an aggregate"),
        ("sum(1 + mean(a))", "'mean' is inside another aggregate"),
        ("summ(a)", "unknown aggregate 'summ'; did you mean 'sum'?"),
        ("std(a)", "ddof has no default"),
        ("quantile(a, 90)", "between 0 and 1"),
        ("quantile(a, b)", "must be a constant"),
    ],
)
def test_a_refusal_in_an_agg_names_the_cure(text: str, cure: str) -> None:
    assert cure in refusal(text, "agg").message


@pytest.mark.parametrize(
    "text",
    [
        "10**10**10",
        "9**9**9**9",
        "2 ** 100",
        "99999999999999999999999",
        "9" * 5_000,
        "(" * 5_000,
        "-" * 5_000 + "1",
        "not " * 2_000 + "a",
        "+".join(["a"] * 2_000),
        "abs(" * 99 + "a" + ")" * 99,
        "a == '" + "x" * 2_000 + "'",
        "a " * 10_000,
    ],
)
def test_sizes_are_bounded(text: str) -> None:
    if text.startswith("abs"):
        assert parse(text, "columns").names == {"a"}
    else:
        refusal(text)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab1.'`(){}[]$,=<>!&|+-*/% \n\\é", max_size=24), st.sampled_from(["arrays", "columns", "agg"]))
def test_any_text_is_parsed_or_refused_with_a_column_inside_it(text: str, scope: Scope) -> None:
    column = 1
    try:
        parse(text, scope)
    except ExpressionError as error:
        column = error.column
    assert 1 <= column <= max(len(text), 1)


_NUMBERS = st.recursive(
    st.integers(0, 9).map(str),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "<", "==", "and", "or"]), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("- {}".format),
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(_NUMBERS)
def test_precedence_is_pythons(text: str) -> None:
    try:
        found = parse(text, "columns").constant
    except ExpressionError:
        return  # a number where true or false is needed
    assert found is not None
    assert found.value == eval(compile(ast.parse(text, mode="eval"), "", "eval"))


def test_a_rendered_expression_parses_to_the_same_tree() -> None:
    for text in ("not a or b and (a or b)", "-(a ** 2) in [1, 'x']", "0 < fill(`o d`, 1) <= ${x}", "a not in ${y}"):
        e = parse(text, "columns")
        assert parse(render(e.root), "columns").root == e.root


# ---------------------------------------------------------------------------------------------------------------------
# Binding
# ---------------------------------------------------------------------------------------------------------------------


class Elsewhere:
    """Stands for a reference of the Config."""

    def __init__(self, text: str) -> None:
        self.text = text


def test_bound_constants_are_folded() -> None:
    e = bind(
        parse("${smooth} > 1 and ${var} in ${vars}", "columns"), {"smooth": 12, "var": "tp", "vars": ["t2m", "tp"]}
    )
    assert e.constant == Constant(True)


def test_values_of_the_run_get_slots_without_repeats() -> None:
    here, there = Elsewhere("best.alpha"), Elsewhere("n")
    e = bind(parse("a > ${x} and b < ${y} or a == ${x}", "columns"), {"x": here, "y": there})
    assert e.references == (here, there)
    assert render(e.root, e.references) == "((a > best.alpha) and (b < n)) or (a == best.alpha)"


def test_steps_are_bound_by_their_references() -> None:
    e = parse("tas[A1B] - mu", "arrays")
    bound = bind(e, {}, {parse_reference("tas[ A1B ]"): Elsewhere("tas"), parse_reference("mu"): 3})
    assert bound.root == Binary("-", BoundValue(0), Constant(3))


def test_what_is_not_given_stays_for_a_later_bind() -> None:
    e = bind(parse("a > ${x} + ${y}", "columns"), {"x": 1})
    assert e.placeholders == ("y",)
    assert bind(e, {"y": 2}).root == Compare(A, (">",), (Constant(3),))


def test_a_date_from_yaml_is_a_time() -> None:
    e = bind(
        parse("a > ${day} and a < date(${text})", "columns"), {"day": datetime(2020, 1, 1).date(), "text": "2021-01-01"}
    )
    assert e.root == Boolean(
        "and",
        (Compare(A, (">",), (Constant(datetime(2020, 1, 1)),)), Compare(A, ("<",), (Constant(datetime(2021, 1, 1)),))),
    )


@pytest.mark.parametrize(
    ("text", "value", "cure"),
    [
        ("a == ${x}", [1, 2], "after 'in'"),
        ("a == ${x}", {"y": 1}, "${name.key}"),
        ("a == ${x}", None, "missing(x)"),
        ("a in ${x}", 3, "a list"),
        ("round(a, ${x})", "two", "whole number"),
        ("localize(a, ${x})", "Nowhere", "not a known time zone"),
        ("localize(a, ${x})", Elsewhere("zone"), "before the run"),
        ("a > ${x}", 2**70, "64 bits"),
        ("1 < ${x}", "two", "number(x)"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(text: str, value: object, cure: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        bind(parse(text, "columns"), {"x": value})
    assert cure in caught.value.message


# ---------------------------------------------------------------------------------------------------------------------
# References and the function table
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("tas", ReferenceText("tas")),
        ("pca.u", ReferenceText("pca", "u")),
        ("tas[A1B]", ReferenceText("tas", "", (PickText(None, "A1B"),))),
        ("fit[alpha=0.1]", ReferenceText("fit", "", (PickText("alpha", "0.1"),))),
        ("fit[alpha=1e-3, x]", ReferenceText("fit", "", (PickText("alpha", "1e-3"), PickText(None, "x")))),
        ("tas[*]", ReferenceText("tas", "", (PickText(None, "*"),))),
        ("fit.rmse[fold=*]", ReferenceText("fit", "rmse", (PickText("fold", "*"),))),
        ("tas['*']", ReferenceText("tas", "", (PickText(None, "*", quoted=True),))),
        ("tas[time=0:40]", ReferenceText("tas", "", (PickText("time", start=0, stop=40),))),
        ("tas[time=-10:, y=3]", ReferenceText("tas", "", (PickText("time", start=-10), PickText("y", "3")))),
        ("tas[ time = : 5 ]", ReferenceText("tas", "", (PickText("time", stop=5),))),
        ('fit["01"]', ReferenceText("fit", "", (PickText(None, "01", quoted=True),))),
    ],
)
def test_a_reference_becomes_its_parts(text: str, reference: ReferenceText) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize(
    ("text", "column", "cure"),
    [
        ("", 1, "name of a step"),
        ("1a", 1, "name of a step"),
        ("a.", 2, "name of a part"),
        ("a[x].b", 5, "a.b[x]"),
        ("a[", 2, "not closed"),
        ("a[x", 2, "not closed"),
        ("a[]", 3, "a label"),
        ("a[x y]", 5, "','"),
        ("a[t=0:4:2]", 8, "write start:stop"),
        ("a[0:4]", 3, "dim"),
        ("a[t=1991-01:1992]", 3, "op: sel"),
        ("a[x=1, x=2]", 8, "twice"),
        ("a b", 2, "after the reference"),
    ],
)
def test_a_bad_reference_is_refused_with_its_place(text: str, column: int, cure: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_reference(text)
    assert cure in caught.value.message
    assert caught.value.column == column


def test_a_pick_tells_positions_from_labels() -> None:
    picks = parse_reference('a[x=3, y="3", z=0.1, u=*]').picks
    assert [pick.position for pick in picks] == [3, None, None, None]
    assert [pick.is_gather for pick in picks] == [False, False, False, True]


def test_every_function_of_the_reference_stands_in_the_table() -> None:
    documented = """
        abs sign sqrt exp log log10 sin cos tan arcsin arccos arctan arctan2 deg2rad rad2deg floor ceil round minimum
        maximum clip where missing fill isfinite number integer text boolean date timestamp duration year quarter month
        isoweek day hour minute second weekday dayofyear floor_time localize convert strftime parse_time coord
        contains startswith endswith match lower upper strip length
        slice replace split extract concat
    """
    assert set(FUNCTIONS) == set(documented.split())
    aggregates = "sum mean min max count nunique median quantile std var first last any all mode list join corr covar"
    assert " ".join(sorted(AGGREGATES)) == " ".join(sorted(aggregates.split()))


def test_the_table_says_how_a_function_is_written() -> None:
    assert [str(FUNCTIONS[name]) for name in ("round", "concat", "where")] == [
        "round(x, n=)",
        "concat(a, b, …)",
        "where(c, a, b)",
    ]


def test_an_expression_is_shown_as_it_was_written() -> None:
    assert str(parse("a>1", "columns")) == "a>1"
    assert isinstance(parse("a>1", "columns"), Expression)


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("like(a, 'x')", "match(s, 'x.*y')"),
        ("a LIKE 'x%'", "contains(s, 'x')"),
        ("a between 1 and 2", "write a <= x <= b"),
        ("between(a, 1, 2)", "write a <= x <= b"),
        ("case when a > 1 then 2 end", "write where(c, a, b)"),
        ("when(a, 1)", "write where(c, a, b)"),
        ("a is not null", "write not missing(x)"),
        ("t + interval '1 day'", "write duration('5min'), or duration(months=3)"),
        ("interval('1 day')", "duration(months=3)"),
        ("a || 'x'", "to join text write concat(a, b)"),
        ("a <> 1", "write '!='"),
        ("avg(a)", "write mean(x)"),
        ("AVG(a)", "write mean(x)"),
        ("substring(a, 1, 2)", "write slice(s, 0, 3)"),
        ("COALESCE(a, 1)", "write fill(x, v)"),
        ("Lower(a)", "did you mean 'lower'?"),
        ("distinct a", "op drop_duplicates"),
        ("diff(a)", "op window"),
        ("a / sum(a)", "and in op window, which gives each row that of its group"),
        ("week(t)", "write isoweek(t)"),
        ("date_trunc('month', t)", "write floor_time(t, 'month')"),
        ("datediff(a, b)", "write (a - b) / duration('1d')"),
        ("to_datetime(s)", "write parse_time(s, ['%d.%m.%Y'])"),
        ("floor_time(t, 'MS')", "write 'ms' for milliseconds, 'month' in floor_time for months"),
        ("floor_time(t, '1M')", "write 'min' for minutes, 'month'"),
        ("floor_time(t, 'QS')", "write 'quarter'"),
        ("floor_time(t, 'fortnight')", "a duration is written"),
        ("floor_time(t, '0 months')", "above 0"),
        ("duration('5MS')", "write 'ms' for milliseconds"),
        ("duration('3 months')", "write duration(months=1)"),
        ("duration('1d', months=2)", "t + duration(months=3) + duration('1d')"),
        ("duration()", "write duration('5min')"),
        ("duration(months=1.5)", "it must be a whole number"),
        ("duration(months=1) + 1", "not defined for months and number"),
        ("strftime(t, '%Q')", "'%Q' is not known"),
        ("parse_time(s, ['%d', 1])", "takes a list of texts"),
        ("parse_time(s, '%d', errors='ignore')", "one of 'fail', 'missing'"),
        ("lower([1])", "only allowed after 'in'"),
        ("distinct(i)", "write nunique(x) in agg, or a step of op drop_duplicates"),
        ("union(a, b)", "write a step of op concat"),
        ("explode(a)", "write a step of op explode"),
        ("exists(a)", "write a step of op merge with how: semi"),
        ("nullif(a, 1)", "write where(a == v, missing, a)"),
        ("ntile(4)", "write row_number() and count() in a step of op window"),
        ("pct_change(a)", "write x / lag(x) - 1 in a step of op window"),
        ("strlen(s)", "write length(s)"),
        ("regexp_matches(s, 'x')", "write match(s, 'x.*y')"),
        ("a > 1 AND b < 2", "got 'AND'; write and"),
        ("a > 1 OR (b < 2)", "got 'OR'; write or"),
        ("NOT (a > 1)", "got 'NOT'; write not"),
        ("NOT a", "got 'NOT'; write not"),
        ("s IN ['a']", "got 'IN'; write in"),
        ("s not IN ['a']", "got 'IN'; write in"),
        ("a > 1 XOR b > 1", "got 'XOR'; write !="),
        ("extract(year from t)", "write year(t), quarter(t), month(t)"),
        ("extract('year', t)", "of a time write year(t), quarter(t), month(t)"),
        ("duration(days=3)", "write duration('3d')"),
        ("duration(minutes=n)", "write duration('1min')"),
        ("round(x, digits=1)", "has no parameter 'digits'; its parameters: x, n"),
        ("sqrt(x, a=1)", "its parameters: x; to compare write '=='"),
        ("number(s, errors='missing')", "write number(where(match(s, '^[0-9]+$'), s, missing))"),
        ("date(t)", "for a column write a step of op astype: columns: {t: date}, or parse_time(s, "),
        ("timestamp(t + u)", "of times write floor_time(t, 'day'), of texts parse_time(s, ['%d.%m.%Y'])"),
    ],
)
def test_words_of_other_languages_are_answered(text: str, cure: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text, "columns")
    assert cure in caught.value.message


@pytest.mark.parametrize("text", ["OR", "OR == 'x'", "(OR) and IN", "NOT == 1", "NOT in [1]", "not OR", "a and AND"])
def test_operators_of_other_languages_may_be_columns(text: str) -> None:
    assert str(parse(text, "columns")) == text


def test_the_date_of_today_is_answered_where_it_would_be_a_column() -> None:
    assert "a run is the same tomorrow" in name_hint("CURRENT_DATE") == name_hint("current_timestamp")


@pytest.mark.parametrize(
    ("scope", "text", "cure"),
    [
        ("window", "pct_change(a)", "write x / lag(x) - 1"),
        ("window", "shift(a)", "write lag(x), or lead(x)"),
        ("window", "a / diff(a)", "write x - lag(x)"),
        ("agg", "count(*)", "got 'count(*)'; write count()"),
        ("window", "COUNT ( * ) + 1", "write count()"),
    ],
)
def test_words_of_windows_and_counts_are_answered(scope: Any, text: str, cure: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text, scope)
    assert cure in caught.value.message


@pytest.mark.parametrize("name", ["avg", "stddev", "variance", "count_distinct", "percentile"])
def test_aggregates_of_other_languages_are_answered(name: str) -> None:
    with pytest.raises(ExpressionError, match=r"unknown function .*; write \w+\(x"):
        parse(f"{name}(a)", "agg")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("date('2020-01-31') + duration(months=1)", datetime(2020, 2, 29)),
        ("date('2020-03-31') - duration(quarters=1)", datetime(2019, 12, 31)),
        ("date('2020-02-29') + duration(years=1)", datetime(2021, 2, 28)),
        ("date('2020-01-31') + 2 * duration(months=1)", datetime(2020, 3, 31)),
        ("-duration(months=2) + date('2020-03-01')", datetime(2020, 1, 1)),
    ],
)
def test_months_are_added_by_the_calendar(text: str, value: datetime) -> None:
    assert parse(text, "columns").root == Constant(value)


@pytest.mark.parametrize(
    ("name", "cure"),
    [("union", "concat"), ("distinct", "drop_duplicates"), ("Pivot_Table", "pivot"), ("diff", "window"),
     ("between", "filter"), ("substring", "slice"), ("avg", "mean"), ("describes", "describe"),
     ("case", "where(c, a, b)"),
     ("like", "filter"), ("interval", "duration(months=3)"), ("group_by", "groupby"), ("unpivot", "melt"),
     ("read_ipc", "read_feather"), ("read_sql_query", "read_sql"), ("from_csv", "read_csv"), ("to_csv", "to: csv"),
     ("write_parquet", "to: parquet"), ("except", "how: anti"), ("semi_join", "how: semi"), ("count", "count()"),
     ("nunique", "nunique(x)"), ("vstack", "concatenate"), ("transform", "window"), ("with_column", "assign")],
)  # fmt: skip
def test_ops_of_other_languages_are_answered(name: str, cure: str) -> None:
    assert cure in OPS.unknown_message(name)


def test_where_as_an_op_names_the_op_of_rows() -> None:
    assert "to choose rows use op 'filter'" in _unknown_op("where")
