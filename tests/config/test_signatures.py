"""Signatures: descriptions, the columns that ops need, and agreement with the functions of the ops."""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config.expressions.expression import parse
from pipeline.config.signatures import OPS, Signature, choose
from pipeline.config.signatures.base import role
from pipeline.config.signatures.descriptions import describe_parameter
from pipeline.config.step_syntax import CALL_KEYS, COMMON_KEYS
from pipeline.errors import nearest

CLASSES = [cls for classes in OPS.values() for cls in classes]
IDS = [cls.home for cls in CLASSES]
HANDED = {"bound", "drop", "frames", "names", "root", "storage", "seed", "name", "picks", "step", "needed", "where"}
"""What functions may ask for besides the parameters."""
OF_BUILDER = {"hashes"}
"""Parameters that the builder sees to, before it calls the function."""


@pytest.mark.parametrize("cls", CLASSES, ids=IDS)
def test_the_function_of_an_op_takes_its_parameters(cls: type[Signature]) -> None:
    module, _, function = cls.home.partition(":")
    found = inspect.signature(getattr(importlib.import_module(f"pipeline.ops.{module}"), function)).parameters
    keywords = {p.name for p in found.values() if p.kind is p.KEYWORD_ONLY}
    positional = [p for p in found.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    assert set(cls.model_fields) - OF_BUILDER <= keywords
    assert keywords - set(cls.model_fields) <= HANDED
    if not any(p.kind is p.VAR_POSITIONAL for p in found.values()):
        assert len(positional) == len(cls.inputs)


@pytest.mark.parametrize("cls", CLASSES, ids=IDS)
def test_everything_that_is_shown_to_users_is_described(cls: type[Signature]) -> None:
    assert cls.__doc__
    assert all(info.description for info in cls.model_fields.values())
    assert all(describe_parameter(cls, name) for name in cls.model_fields)


@pytest.mark.parametrize("cls", CLASSES, ids=IDS)
def test_no_op_uses_a_common_key_as_a_parameter(cls: type[Signature]) -> None:
    assert not set(cls.model_fields) & ({*COMMON_KEYS, *CALL_KEYS, "op", "expr", "call", "command"} - {"args"})


def test_the_distributions_of_an_op_are_dependencies() -> None:
    """Without a package of its own: names of files, what a user's function does, SQLite of Python, web sites."""
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *itertools.chain.from_iterable(project["optional-dependencies"].values())]
    names = {re.split(r"[ \[<>=]", text)[0] for text in listed} | {"numcodecs"}  # of zarr
    assert {name for cls in CLASSES for name in cls.distributions} <= names
    assert {cls.op for cls in CLASSES if not cls.distributions} == {"crawl", "files", "lookup", "tree_reduce"}


@pytest.mark.parametrize(
    ("op", "kind", "maps", "home"),
    [
        ("groupby", "array", (), "arrays.labelled:groupby"),
        ("groupby", "frame", (), "frames.groupby:groupby"),
        ("groupby", "items", ("agg",), "frames.groupby:groupby"),
        ("groupby", "", (), "arrays.labelled:groupby"),
        ("mean", "frame", (), "arrays.reductions:mean"),
    ],
)
def test_the_class_of_an_op_is_chosen_by_the_kind_of_its_input(
    op: str, kind: str, maps: tuple[str, ...], home: str
) -> None:
    assert choose(op, kind, maps).home == home


def test_the_short_form_of_roles() -> None:
    got = role(("array*", "items", "value?"))
    assert (got.kinds, got.gathered, got.many, got.optional) == (("array", "items", "value"), ("array",), True, True)


@pytest.mark.parametrize(
    ("op", "given"),
    [
        ("mean", {"skipna": 1}),
        ("mean", {"axis": []}),
        ("mean", {"axes": "x"}),
        ("std", {}),
        ("quantile", {"q": 1.5, "axis": "x"}),
        ("rechunk", {"chunks": {"x": 0}}),
        ("rolling", {"window": {"x": 2}, "agg": "median"}),
        ("map_blocks", {"function": "m.f", "dtype": "int8"}),
        ("map_blocks", {"function": "m:f", "dtype": "string"}),
        ("read_csv", {"path": "x", "cast": {"a": "flot64"}}),
        ("nlargest", {"n": True, "columns": "a"}),
        ("sel", {"labels": {"x": [1, 2, 3]}}),
    ],
)
def test_parameters_of_another_type_or_range_are_refused(op: str, given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        choose(op).model_validate(given)


@pytest.mark.parametrize("kind", ["timestamp", "timestamp[UTC]", "timestamp[Europe/Paris]", "string", "int64", "bool"])
def test_types_of_columns(kind: str) -> None:
    assert choose("read_csv").model_validate({"path": "x", "cast": {"a": kind}}).keywords()["cast"] == {"a": kind}


def columns(text: str) -> object:
    return parse(text, "columns")


def aggregate(text: str) -> object:
    return parse(text, "agg")


NEEDED = [
    ("select", {"columns": ["a", "b"]}, {"a"}, {"input": {"a", "b"}}),
    ("select", {"columns": ["a"]}, None, {"input": {"a"}}),
    ("filter", {"where": columns("x > 1 and y < 2")}, {"a"}, {"input": {"a", "x", "y"}}),
    ("filter", {"where": columns("x > 1")}, None, {"input": None}),
    ("assign", {"columns": {"a": columns("x + y")}}, {"a", "b"}, {"input": {"b", "x", "y"}}),
    ("assign", {"columns": {"a": columns("a + 1")}}, {"a"}, {"input": {"a"}}),
    ("assign", {"columns": {"a": columns("x")}}, None, {"input": None}),
    (
        "groupby",
        {"by": "k", "agg": {"n": aggregate("count()"), "s": aggregate("sum(x)")}},
        {"n"},
        {"input": {"k", "x"}},
    ),
    ("merge", {"on": "k"}, {"a"}, {"left": {"a", "k"}, "right": {"a", "k"}}),
    ("merge", {"left_on": ["k"], "right_on": ["r"]}, {"a_x"}, {"left": {"a", "a_x", "k"}, "right": {"a", "a_x", "r"}}),
    ("merge", {"on": "k", "validate": "one_to_one"}, None, {"left": None, "right": None}),
    ("concat", {}, {"a"}, {"input": {"a"}}),
    ("sort_values", {"by": "a"}, {"a"}, {"input": None}),
    ("nlargest", {"n": 1, "columns": "a"}, {"a"}, {"input": None}),
    ("drop_duplicates", {"subset": "a"}, {"a"}, {"input": None}),
    ("to_array", {"columns": ["a"], "dims": ["r", "f"], "labels": "id"}, None, {"input": {"a", "id"}}),
    ("to_array", {"columns": "f*", "dims": ["r", "f"]}, None, {"input": None}),
]


@pytest.mark.parametrize(("op", "given", "used", "wanted"), NEEDED)
def test_the_columns_that_an_op_needs_of_its_inputs(
    op: str, given: dict[str, object], used: set[str] | None, wanted: dict[str, set[str] | None]
) -> None:
    made = choose(op, "frame").model_validate(given)
    assert made.needed(None if used is None else frozenset(used)) == wanted


@pytest.mark.parametrize(
    ("op", "given", "kind", "said"),
    [
        ("merge", {}, "frame", "needs the key columns"),
        ("merge", {"on": "a", "left_on": "b"}, "frame", "cannot be combined with 'on'"),
        ("merge", {"left_on": ["a", "b"], "right_on": "b"}, "frame", "got 1 column; left_on has 2"),
        ("resample", {"rule": {"t": "D"}, "agg": "std"}, "array", "std needs ddof"),
        ("rolling", {"window": {"t": 2}, "agg": "sum", "ddof": 1}, "array", "has no effect on sum"),
        ("sort_values", {"by": "a", "ascending": [True, False]}, "frame", "got 2 values for 1 column"),
        ("to_array", {"along": "x"}, "frame", "has no effect on a frame; it is for items"),
        ("to_array", {"along": "x"}, "items", "needs shape, dtype"),
        ("to_array", {"dims": ["a"], "shape": [], "dtype": "int8"}, "value", "got 0 sizes for 1 dims"),
        ("to_frame", {}, "items", "needs columns: {name: type}"),
        ("to_frame", {"columns": {"a": "int64"}}, "array", "the dim whose labels become columns"),
        ("to_frame", {"columns": {"a": "int64", "b": "int64"}}, "array*", "the values of the arrays make one column"),
        ("to_items", {"by": "rows"}, "array", "has no effect on an array; it is for frame"),
    ],
)
def test_parameters_that_do_not_fit_the_input_are_reported(
    op: str, given: dict[str, object], kind: str, said: str
) -> None:
    made = choose(op, kind.rstrip("*")).model_validate(given)
    assert any(said in message for _, message in made.misfits({"input": kind}))


@pytest.mark.parametrize(
    ("got", "said"),
    [
        ("axes", "; did you mean 'axis'?"),
        ("AXIS", "; did you mean 'axis'?"),
        ("zzz", ""),
        ("kepdims", "; did you mean 'keepdims'?"),
    ],
)
def test_the_nearest_name(got: str, said: str) -> None:
    assert nearest(got, {"axis", "skipna", "keepdims"}) == said
