"""The published schema of report.json: documents fit it, faults are named, and our check says what jsonschema says."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from folders import HOSTILE, comparison, interval, run
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pipeline.errors import DataError
from pipeline.runs.report_model import FORMAT
from pipeline.runs.report_schema import json_schema, parse, read, upgraded, validation_errors

SCHEMA = json_schema()
PUBLISHED = Draft202012Validator(SCHEMA)
REFERENCE = {
    "call": "census:plain",
    "elapsed": interval(1.0),
    "speedup_of_serial": interval(0.8),
    "equal": "equal",
    "cost": {"pool": 2, "threads": None},
}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("documents")
    scaled = [("pool", 1), ("pool", 2), ("pool", 4)]
    return {
        "comparison": comparison(folder / "a", n_tasks=30),
        "scaled": comparison(folder / "b", n_tasks=30, cases=scaled, scaled=True, reference=REFERENCE),
        "hostile": comparison(folder / "c", n_tasks=30, steps=HOSTILE, problem=HOSTILE[0]),
        "run": run(folder / "d", n_tasks=30),
    }


def test_the_schema_is_one_of_draft_2020_12() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_every_field_is_described() -> None:
    def fields(schema: dict[str, Any], place: str) -> Any:
        for name, inner in schema.get("properties", {}).items():
            yield f"{place}.{name}", inner
            yield from fields(inner, f"{place}.{name}")
        for word in ("items", "additionalProperties"):
            if isinstance(schema.get(word), dict):
                yield from fields(schema[word], f"{place}.{word}")

    places = [SCHEMA, *SCHEMA["$defs"].values()]
    found = dict(pair for i, schema in enumerate(places) for pair in fields(schema, str(i)))
    bare = [
        place
        for place, schema in found.items()
        if not schema.get("description") and not any("$ref" in s for s in (schema, *schema.get("anyOf", ())))
    ]
    assert len(found) > 100
    assert bare == []
    assert all(definition["description"] for definition in SCHEMA["$defs"].values())


@pytest.mark.parametrize("name", ["comparison", "scaled", "hostile", "run"])
def test_documents_fit(documents: dict[str, dict[str, Any]], name: str) -> None:
    assert validation_errors(documents[name]) == []
    assert list(PUBLISHED.iter_errors(documents[name])) == []


def changed(document: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """The document with another value at a place."""
    told = copy.deepcopy(document)
    inner = told
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return told


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("kind",), "guess", "kind: got 'guess'; it must be one of comparison, run"),
        (("format",), True, "format: got True; it must be 1"),
        (("n_tasks",), -1, "n_tasks: got -1; it must be >= 0"),
        (("n_tasks",), True, "n_tasks: got True; it must be of type integer"),
        (("rows", 1, "speedup", "n"), "x", "rows[1].speedup.n: got 'x'; it must be of type integer"),
        (("rows", 1, "speedup", "confidence"), 2, "rows[1].speedup.confidence: got 2; it must be <= 1"),
        (("rows", 1, "speedup", "middle"), 1, "rows[1].speedup.middle: is unknown; there are value, low, high"),
        (("accounts", 0, "critical_path", 3, "kind"), "rest",
         "accounts[0].critical_path[3].kind: got 'rest'; it must be one of compute, data-wait, core-wait"),
        (("accounts", 0, "losses", "sleep"), {}, "accounts[0].losses.sleep: is unknown"),
        (("accounts", 0, "cpu_beside", "parent"), "1 s", "accounts[0].cpu_beside.parent: got '1 s'; it must be"),
        (("graph", "edges", 0), ["a"], "graph.edges[0]: got ['a']; it must be a list of 2 items"),
        (("graph",), [], "graph: got []; it must be of type object"),
        (("inputs",), None, "inputs: got None; it must be of type object"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_place_and_what_is_allowed(
    documents: dict[str, dict[str, Any]], place: tuple[str | int, ...], value: Any, said: str
) -> None:
    told = changed(documents["comparison"], place, value)
    found = validation_errors(told)
    assert len(found) == 1
    assert found[0].startswith(said)
    assert not PUBLISHED.is_valid(told)


def test_what_a_later_version_tells_besides_is_passed_over(documents: dict[str, dict[str, Any]]) -> None:
    for place in (("novelty",), ("rows", 1, "novelty"), ("accounts", 1, "novelty")):
        told = changed(documents["comparison"], place, 1)
        assert validation_errors(told) == []
        assert PUBLISHED.is_valid(told)


def test_all_faults_are_told_at_once(documents: dict[str, dict[str, Any]]) -> None:
    told = changed(documents["comparison"], ("kind",), 1)
    del told["name"], told["rows"][0]["backend"]
    with pytest.raises(DataError) as caught:
        parse(told)
    assert str(caught.value).split("\n")[1:] == [
        "kind: got 1; it must be one of comparison, run",
        "name: is missing",
        "rows[0].backend: is missing",
    ]


def test_of_many_faults_ten_are_told_and_the_others_counted(documents: dict[str, dict[str, Any]]) -> None:
    told = changed(documents["comparison"], ("footnotes",), list(range(14)))
    with pytest.raises(DataError, match=r"footnotes\[9\].*\n… 4 more errors$"):
        parse(told)


@pytest.mark.parametrize("got", [2, "1", None])
def test_another_format_is_refused_by_its_number(documents: dict[str, dict[str, Any]], got: Any) -> None:
    with pytest.raises(DataError, match=rf"^format: got {got!r}; this version reads format {FORMAT}$"):
        parse(changed(documents["run"], ("format",), got))


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "[" * 100_000])
def test_a_file_that_is_no_report_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"report\.json: "):
        read(path)
    with pytest.raises(DataError, match=r"absent\.json: is no report"):
        read(tmp_path / "absent.json")


def places(value: Any, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a document, the first two of each list."""
    found = [place] if place else []
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return found + [deeper for step, child in inner for deeper in places(child, (*place, step))]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_our_check_says_what_jsonschema_says(documents: dict[str, dict[str, Any]], data: st.DataObject) -> None:
    document = documents[data.draw(st.sampled_from(sorted(documents)))]
    place = data.draw(st.sampled_from(places(document)))
    scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 0.5, 2.0, -1.5]) | st.text()
    value = data.draw(scalars | st.just([]) | st.just({}) | st.just({"value": 1}) | st.just(["a", "b"]))
    told = changed(document, place, value)
    assert (validation_errors(told) == []) == PUBLISHED.is_valid(told)


def test_an_old_comparison_is_filled_in(documents: dict[str, dict[str, Any]]) -> None:
    told = copy.deepcopy(documents["comparison"])
    old = {key: told[key] for key in ("name", "fingerprint", "n_tasks", "rows")}
    for row in old["rows"]:
        del row["label"]
    old["measurements"] = [{"backend": "pool", "round": 0, "elapsed": 1.0, "n_workers": 2, "trace": ""}]
    report = parse(upgraded(old))
    assert [row.label for row in report.rows] == [row["backend"] for row in told["rows"]]
    assert report.measurements[0].case == "pool"
    assert report.kind == "comparison"
    with pytest.raises(DataError, match="n_tasks: is missing"):
        parse(upgraded({}))


def test_numbers_that_json_does_not_have_are_refused(documents: dict[str, dict[str, Any]]) -> None:
    told = changed(documents["comparison"], ("rows", 1, "user"), float("inf"))
    assert validation_errors(told) == ["rows[1].user: got inf; it must be a finite number"]
