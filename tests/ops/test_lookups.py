"""``lookup`` in SQLite, CSV and a web service: one value an item, in order, whatever the values and the source do."""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from serially import graph_of, values_of
from web_site import Handler, Server

import pipeline
from pipeline.cli.program import main
from pipeline.errors import ConfigError, DataError, TaskError, TaskTimeout
from pipeline.ops.web import libraries
from pipeline.ops.web.fetching import retry_delay
from pipeline.runs.run import Run

PEOPLE = [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Ben"}, {"id": 3, "name": "Cleo"}]
PETS = [(1, "Rex", 3.5), (3, "Mia", None), (1, "Bo", 1.0)]
MODULE = f"""
def people():
    return {PEOPLE!r}

def half():
    return [{{"id": "a\\ud800"}}]

def same(value):
    return value
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with pets.sqlite, pets.csv, people.csv and mine.py."""
    with sqlite3.connect(tmp_path / "pets.sqlite") as database:
        database.execute("create table pets (owner integer, name text, age real)")
        database.executemany("insert into pets values (?, ?, ?)", PETS)
    database.close()
    rows = "".join(f"{owner},{name},{'' if age is None else age}\n" for owner, name, age in PETS)
    (tmp_path / "pets.csv").write_text(f"owner,name,age\n{rows}")
    (tmp_path / "people.csv").write_text("id,name\n1,Ada\n2,Ben\n3,Cleo\n")
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path


def text_of(lookup: str, people: str = 'call: "mine:people"') -> str:
    return f"modules: [./mine.py]\nsteps:\n  people: {{{people}}}\n  pets: {{op: lookup, input: people, {lookup}}}\n"


def items_of(*values: Any) -> str:
    """The step that gives these items."""
    return f'call: "mine:same", over: {{value: {json.dumps(values)}}}'


def listed(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value)


def found(lookup: str, folder: Path, people: str = 'call: "mine:people"') -> list[Any]:
    """What each item gets, in order."""
    return listed(values_of(text_of(lookup, people), folder)["pets"])


def refused(lookup: str, folder: Path) -> str:
    with pytest.raises(ConfigError) as error:
        graph_of(text_of(lookup), folder)
    return str(error.value)


SQL = 'database: pets.sqlite, query: "select name, age from pets where owner = :id order by name"'
CSV = "csv: pets.csv, key: owner, field: id"
ROWS = [[{"name": "Bo", "age": 1.0}, {"name": "Rex", "age": 3.5}], [], [{"name": "Mia", "age": None}]]


# ---------------------------------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "people",
    ['call: "mine:people"', "op: read_csv, path: people.csv", items_of(*PEOPLE)],
    ids=["value", "frame", "items"],
)
def test_each_item_or_row_gets_its_rows_in_order(people: str, here: Path) -> None:
    assert found(f"{SQL}, missing: empty", here, people) == ROWS


def test_csv_rows_have_the_key_as_the_item_has_it(here: Path) -> None:
    rex, bo, mia = ({"owner": o, "name": n, "age": a} for o, n, a in (PETS[0], PETS[2], PETS[1]))
    assert found(f"{CSV}, missing: empty", here) == [[rex, bo], [], [mia]]
    assert found(f"{CSV}, missing: 'null'", here) == [[rex, bo], None, [mia]]
    (here / "codes.csv").write_text("code;n\n007;1\n7;2\nyes;3\n")
    items = items_of("007", 7, 7.0, "yes", None)
    got = found("csv: codes.csv, sep: ';', key: code, one: true, missing: 'null'", here, items)
    assert got == [{"code": "007", "n": 1}, {"code": 7, "n": 2}, {"code": 7.0, "n": 2}, {"code": "yes", "n": 3}, None]


def test_decimals_are_looked_up_as_they_are_written(here: Path) -> None:
    texts = ["1.10", "12345678901234567.89", "-5.00"]
    decimals = [Decimal(text) for text in texts]
    (here / "prices.csv").write_text("price\n" + "\n".join(texts))
    (here / "codes.csv").write_text("code,n\n" + "".join(f"{text},{i}\n" for i, text in enumerate(texts)))
    prices = 'op: read_csv, path: prices.csv, cast: {price: "decimal(20, 2)"}'
    got = found("csv: codes.csv, key: code, field: price, one: true", here, prices)
    assert got == [{"code": decimal, "n": i} for i, decimal in enumerate(decimals)]
    with Server(lambda request: request.send(200, json.dumps(request.path), Connection="close")) as server:
        assert found(f"url: '{server.url}/{{price}}'", here, prices) == [f"/{text}" for text in texts]
    query = 'database: pets.sqlite, query: "select :price as v, typeof(:price) as t", one: true'
    assert [row["v"] for row in found(query, here, prices)] == [float(decimal) for decimal in decimals]
    assert [row["t"] for row in found(query, here, prices)] == ["real", "real", "integer"]


def test_whole_numbers_of_a_csv_file_are_exact(here: Path) -> None:
    numbers = [2**63, 2**63 + 1, -(10**50), None, 7]
    (here / "large.csv").write_text(
        "k,n\n" + "".join(f"{i},{'NA' if n is None else n}\n" for i, n in enumerate(numbers))
    )
    assert found("csv: large.csv, key: k, one: true", here, items_of(*range(5))) == [
        {"k": i, "n": n} for i, n in enumerate(numbers)
    ]
    (here / "large.csv").write_text("k,n\n0,1e300\n1,0.5\n")
    assert found("csv: large.csv, key: k, one: true", here, items_of(0)) == [{"k": 0, "n": 1e300}]


@pytest.mark.parametrize("number", ["1e400", "9007199254740993", "9" * 5000])
def test_a_number_that_no_float_equals_is_an_error_beside_fractions(number: str, here: Path) -> None:
    (here / "large.csv").write_text(f"k,n\n0,0.5\n1,{number}\n")
    with pytest.raises(DataError, match=rf"large\.csv: column 'n': {number[:80]} is .*float.*cast: {{n: string}}"):
        found("csv: large.csv, key: k, one: true", here, items_of(0))


def test_values_are_bound_and_never_part_of_the_query(here: Path) -> None:
    items = items_of("1' or '1' = '1", "1; drop table pets", 1)
    assert found(f"{SQL}, missing: empty", here, items) == [[], [], ROWS[0]]


def test_one_row_is_a_map_and_more_are_an_error(here: Path) -> None:
    assert found(f"{SQL}, one: true", here, items_of(3)) == [ROWS[2][0]]
    with pytest.raises(DataError, match=r"has 2 rows for 1; one: false gives all of them"):
        found(f"{SQL}, one: true", here, items_of(1))


def test_nothing_found_is_an_error_with_its_cure(here: Path) -> None:
    with pytest.raises(DataError, match=r"has no row for .*'id': 2.* write missing: null, or missing: empty"):
        found(SQL, here)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("delete from pets where owner = :id", "a query may only read"),
        ("update pets set name = :id", "a query may only read"),
        ("attach :id as other", "a query may only read"),
        ("pragma journal_mode = :id", "near"),
        ("select name from cats where owner = :id", "no such table: cats"),
        ("select nme from pets where owner = :id", "no such column: nme"),
        ("select 1 where :id; delete from pets", "one statement"),
        ("select name from pets", 'no value of the item is bound in it: write "… where owner = :id"'),
        ("select ':id' from pets -- :id", "no value of the item is bound in it"),
        ("select name from pets where owner = ? and name = :id", "bound by name"),
        (
            "select *, name from pets where owner = :id",
            "the result has 'name' more than once; name one of them: select",
        ),
        ("select p.*, q.* from pets p join pets q where p.owner = :id", "the result has 'owner' more than once"),
    ],
)
def test_a_query_that_is_wrong_or_writes_is_refused(query: str, said: str, here: Path) -> None:
    message = refused(f'database: pets.sqlite, query: "{query}"', here)
    assert said in message
    assert "test.yaml:5" in message
    assert "steps.pets.query" in message


@pytest.mark.parametrize(
    ("lookup", "said"),
    [
        ("query: 'select :id'", "steps.pets: needs one of database, csv, url; got none"),
        (f"{SQL}, csv: pets.csv", "needs one of database, csv, url; got database and csv"),
        ("database: pets.sqlite", "'database' needs query"),
        (f"{SQL}, key: owner", "steps.pets.key: has no effect beside 'database'; it is for csv"),
        (
            "csv: pets.csv, key: ownr",
            "'ownr' is no column of the file; there are owner, name, age; did you mean 'owner'?",
        ),
        (f"{SQL}, one: true, missing: empty", "write missing: null"),
        (f"{SQL}, rate: 10", "got 10; a rate is a text like 10/s, 100/min, 500/h"),
        ("url: 'http://127.0.0.1/pets'", "write where their values go: {id}"),
        ("url: 'http://127.0.0.1/pets#{id}'", "write where their values go: {id}"),
        ("url: 'http://127.0.0.1/{id}/../pets'", "write where their values go: {id}"),
        ("url: 'http://{host}/pets'", "got a value before the path"),
        ("url: 'http://127.0.0.1{id}/pets'", "got a value before the path"),
        ("url: 'ftp://127.0.0.1/{id}'", "write http:// or https://"),
        ("url: 'http://127.0.0.1/{id'", "a place for a value is {name}"),
        ("url: 'http://127.0.0.1/{id}', headers: {X-A: \"b\\r\\nc\"}", "'X-A' is no header"),
        ("url: 'http://127.0.0.1/{id}', headers: {X-A: ' b'}", "'X-A' is no header"),
        ("url: 'http://127.0.0.1/{id}', headers: {Content-Length: '5'}", "'Content-Length' is of the connection"),
    ],
)
def test_what_a_lookup_does_not_take(lookup: str, said: str, here: Path) -> None:
    message = refused(lookup, here)
    assert said in message
    assert "test.yaml:5" in message


def test_files_that_are_missing_or_damaged_are_exit_code_3(here: Path) -> None:
    (here / "text.sqlite").write_text("not a database, but text" * 100)
    (here / "empty.sqlite").write_text("")
    for name, said in {"no": "no such file", "text": "no SQLite database", "empty": "no SQLite database"}.items():
        for query in ("select name from pets where owner = :id", "select :id as v"):
            with pytest.raises(DataError, match=rf"steps.pets.*{name}\.sqlite: .*{said}"):
                graph_of(text_of(f'database: {name}.sqlite, query: "{query}"'), here)
    with pytest.raises(DataError, match=r"no\.csv"):
        graph_of(text_of("csv: no.csv, key: owner"), here)


def test_a_library_that_is_missing_is_named_with_its_cure(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    assert "'lookup' needs httpx, which is not installed: pip install 'pipeline[web]'" in refused(
        "url: 'http://127.0.0.1/{id}'", here
    )
    assert found(f"{SQL}, missing: empty", here) == ROWS


@pytest.mark.parametrize("header", ["id,zip,zip", "id,zip,id"])
def test_a_csv_file_has_each_column_once(header: str, here: Path) -> None:
    (here / "twice.csv").write_text(f"{header}\n1,2,3\n")
    twice = header[-3:].lstrip(",")
    with pytest.raises(DataError, match=rf"twice\.csv: the header has '{twice}' more than once"):
        graph_of(text_of("csv: twice.csv, key: id"), here)


def test_an_output_must_not_replace_the_database(here: Path) -> None:
    text = f"version: 1\n{text_of(SQL)}outputs:\n  pets: {{to: pickle, path: 'pets.sqlite/${{key}}'}}\n"
    (here / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"pets\.sqlite"):
        pipeline.load(here / "a.yaml").run(backend="serial", out=here, runs=here / "runs")


def test_columns_of_one_name_are_an_error_where_check_does_not_see_them(here: Path) -> None:
    slow = "with recursive n(i) as (select 1 union all select i + 1 from n limit 300000) select count(*) from n"
    text = text_of(
        f'database: pets.sqlite, query: "select name, age as name from pets where owner = :id + ({slow}) * 0"'
    )
    with pytest.raises(DataError, match="the result has 'name' more than once"):
        values_of(text, here)


def test_a_query_that_takes_too_long_is_interrupted(here: Path) -> None:
    endless = "with recursive n(i) as (select :id union all select i + 1 from n) select count(*) from n"
    with pytest.raises(TaskTimeout, match=r"pets.sqlite: no answer within 0.2 s"):
        found(f'database: pets.sqlite, query: "{endless}", timeout: 0.2', here)


def test_a_locked_database_is_asked_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    with contextlib.closing(sqlite3.connect(here / "pets.sqlite", isolation_level=None)) as writer:

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                writer.execute("commit")

        monkeypatch.setattr("pipeline.ops.web.lookup.pause", pause)
        writer.execute("begin exclusive")
        with pytest.raises(TaskTimeout, match=r"no answer within 0.05 s \(.*locked\) in 2 tries; retries: 3"):
            found(f"{SQL}, timeout: 0.05, retries: 1", here, items_of(1))
        assert found(f"{SQL}, timeout: 0.05, retries: 1", here, items_of(1)) == [ROWS[0]]
    assert all(0.25 <= pause < 0.75 for pause in pauses)


def test_a_whole_number_beyond_those_of_sqlite_is_named(here: Path) -> None:
    with pytest.raises(DataError, match="got 9223372036854775808, and SQLite has whole numbers of 64 bits; look for"):
        found(SQL, here, items_of(2**63))


@pytest.mark.parametrize("lookup", [SQL, CSV, "url: 'http://127.0.0.1/{id}'"])
def test_half_of_a_character_is_an_error(lookup: str, here: Path) -> None:
    with pytest.raises(DataError, match=r"got 'a\\ud800', with half of a character"):
        found(lookup, here, 'call: "mine:half"')


def ran(text: str, folder: Path, backend: str = "threads", **options: Any) -> Run:
    (folder / "a.yaml").write_text(f"version: 1\n{text}keep: [pets]\n")
    return pipeline.load(folder / "a.yaml").run(backend=backend, out=folder / "out", runs=folder / "runs", **options)


def test_failed_items_are_dropped_where_the_step_says_so(here: Path) -> None:
    for people in ('call: "mine:people"', items_of(*PEOPLE)):
        r = ran(text_of(f"{SQL}, on_error: drop", people), here)
        assert listed(r["pets"]) == [ROWS[0], ROWS[2]]


# ---------------------------------------------------------------------------------------------------------------------
# Web services
# ---------------------------------------------------------------------------------------------------------------------


def answer_pets(request: Handler) -> None:
    owner = parse_qs(urlsplit(request.path).query)["owner"][0]
    rows = [{"name": name, "age": age} for o, name, age in PETS if str(o) == owner]
    request.send(200 if rows else 404, json.dumps(rows), "application/json", Connection="close")


def test_a_service_answers_with_json_and_404_is_missing(here: Path) -> None:
    with Server(answer_pets) as server:
        url = f"url: '{server.url}/pets?owner={{id}}'"
        assert found(f"{url}, missing: 'null'", here) == [
            [{"name": "Rex", "age": 3.5}, {"name": "Bo", "age": 1.0}],
            None,
            [{"name": "Mia", "age": None}],
        ]
        with pytest.raises(DataError, match=r"/pets\?owner=\{id\} has nothing for \{'id': 2, 'name': 'Ben'\}"):
            found(url, here)


def test_values_in_a_url_are_encoded(here: Path) -> None:
    values = ["a b&owner=1", "../admin", "ü/?#", "100%", True, 2.0, {"id": 5}]
    with Server(lambda request: request.send(200, json.dumps(request.path), Connection="close")) as server:
        got = found(f"url: '{server.url}/p/{{id}}?owner={{id}}'", here, items_of(*values))
    paths = ["a%20b%26owner%3D1", "..%2Fadmin", "%C3%BC%2F%3F%23", "100%25", "true", "2", "5"]
    assert got == [f"/p/{path}?owner={path}" for path in paths]
    with pytest.raises(DataError, match="would be another path"):
        found(f"url: '{server.url}/p/{{id}}'", here, items_of(".."))


def failing(n: int, status: int, **headers: str) -> Callable[[Handler], None]:
    """A service whose first ``n`` answers to each path are failures."""

    def answer(request: Handler) -> None:
        failed = request.server.requests[request.path] <= n
        request.send(status if failed else 200, "[1]", Connection="close", **(headers if failed else {}))

    return answer


@pytest.mark.parametrize("status", [429, 500, 503])
def test_failures_are_tried_again_with_longer_pauses(status: int, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("pipeline.ops.web.lookup.pause", pauses.append)
    with Server(failing(2, status)) as server:
        assert found(f"url: '{server.url}/{{id}}', retries: 2", here) == [[1]] * 3
    assert set(server.requests.values()) == {3}
    assert all(0.25 <= pause < 0.75 for pause in pauses[::2])
    assert all(0.5 <= pause < 1.5 for pause in pauses[1::2])
    again = [retry_delay(i, 7, "x") for i in range(1, 12)]
    assert again == [retry_delay(i, 7, "x") for i in range(1, 12)], "the same in each run"
    assert again != [retry_delay(i, 7, "y") for i in range(1, 12)], "but items don't come back all at once"
    assert max(again) < 90


def test_a_retry_after_is_respected(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("pipeline.ops.web.lookup.pause", pauses.append)
    with Server(failing(1, 503, Retry_After="7")) as server:
        found(f"url: '{server.url}/{{id}}', retries: 1", here)
        assert pauses == [7.0] * 3
    with Server(failing(1, 503, Retry_After="301")) as server, pytest.raises(DataError, match="Retry-After is 301"):
        found(f"url: '{server.url}/{{id}}', retries: 1", here)
    assert retry_delay(1, 0, "", "Mon, 01 Jan 2001 00:00:00 GMT") < 1
    assert retry_delay(1, 0, "", "Mon, 01 Jan 2999 00:00:00 GMT") is None
    assert retry_delay(1, 0, "", "nonsense") < 1
    assert retry_delay(1, 0, "", "²") < 1


CUT = gzip.compress(b"[1]")[:-5]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda r: r.send(403, "no key", "text/plain", Connection="close"), r"/1: status 403: no key"),
        (lambda r: r.send(200, "<p>", Connection="close"), r"/1: is no JSON \(text/html"),
        (lambda r: r.send(200, "[1.5, 1e400]", Connection="close"), r"1e400 is beyond all floats"),
        (lambda r: r.send(200, "[" * 100_000, Connection="close"), r"is no JSON"),
        (lambda r: r.send(302, Location="http://127.0.0.2:9/x", Connection="close"), r"redirects to another site"),
        (lambda r: r.send(302, Location=r.path, Connection="close"), r"more than 5 redirects"),
        (lambda r: r.send(302, Location="mailto:a@b.c", Connection="close"), r"/1: redirects to what mailto: is not"),
        (lambda r: r.send(302, Location="/x\ty", Connection="close"), r"/1: redirects to what is no valid URL"),
        (lambda r: r.send(200, CUT, Content_Encoding="gzip", Connection="close"), r"/1: .*the body broke off"),
        (
            lambda r: r.send(503, "no", "text/plain", Connection="close"),
            r"/1: status 503: no; retries: 3 on the step asks more often",
        ),
    ],
)
def test_what_else_a_service_may_answer(answer: Callable[[Handler], None], said: str, here: Path) -> None:
    with Server(answer) as server, pytest.raises(DataError, match=said):
        found(f"url: '{server.url}/{{id}}'", here)


def test_a_url_that_is_too_long_is_named(here: Path) -> None:
    with pytest.raises(DataError, match=r"http://127.0.0.1/x+…: is longer than 2,000 characters; shorten the values"):
        found("url: 'http://127.0.0.1/{id}'", here, items_of("x" * 3000))


def test_a_service_that_fails_is_exit_code_3_and_asks_for_no_timeout(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Server(failing(9, 500)) as server:
        text = text_of(f"url: '{server.url}/{{id}}'", items_of(1))
        (here / "a.yaml").write_text(f"version: 1\n{text}keep: [pets]\n")
        assert main(["run", str(here / "a.yaml"), "--backend", "serial", "--runs", str(here / "runs")]) == 3
    last = capfd.readouterr().err.splitlines()[-1]
    assert "/1: status 500: [1]; retries: 3 on the step asks more often." in last
    assert "timeout" not in last
    assert "(task" not in last


def test_a_service_that_is_not_there_is_named(here: Path) -> None:
    with Server() as server:
        pass
    with pytest.raises(DataError, match=r"127.0.0.1:\d+/1: no connection: Connection refused"):
        found(f"url: '{server.url}/{{id}}'", here)


def test_headers_are_sent_and_secrets_are_not_shown(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t-token")
    seen: list[str] = []

    def answer(request: Handler) -> None:
        seen.append(request.headers["Authorization"])
        request.send(403, request.headers["Authorization"], "text/plain", Connection="close")

    with Server(answer) as server:
        lookup = f"url: '{server.url}/{{id}}', headers: {{Authorization: 'Bearer ${{secret:TOKEN}}'}}"
        (here / "a.yaml").write_text(f"version: 1\n{text_of(lookup)}keep: [pets]\n")
        assert main(["run", str(here / "a.yaml"), "--backend", "serial", "--runs", str(here / "runs")]) == 3
    assert set(seen) == {"Bearer s3cr3t-token"}
    printed = "".join(capfd.readouterr())
    assert "status 403" in printed
    assert "s3cr3t" not in printed
    assert not [path for path in (here / "runs").rglob("*") if path.is_file() and b"s3cr3t" in path.read_bytes()]


def test_workers_share_a_rate_and_keep_their_connections(here: Path) -> None:
    connections: set[tuple[str, int]] = set()

    def answer(request: Handler) -> None:
        connections.add(request.client_address)
        request.send(200, "1")

    with Server(answer) as server:
        ran(text_of(f"url: '{server.url}/{{id}}', rate: 40/s", items_of(*range(40))), here, "processes", workers=2)
    assert len(connections) <= 2
    times = sorted(server.times)
    assert len(times) == 40
    assert times[-1] - times[0] > 39 / 40 * 0.9  # the last one may have waited less for its turn


def test_lookups_of_several_threads_are_under_way_at_once(here: Path) -> None:
    together = threading.Barrier(4)

    def answer(request: Handler) -> None:
        together.wait(60)  # breaks, and fails the test, if fewer come at once
        request.send(200, "1", Connection="close")

    with Server(answer) as server:
        r = ran(text_of(f"url: '{server.url}/{{id}}'", items_of(*range(12))), here, "threads", workers=4)
    assert listed(r["pets"]) == [1] * 12


def test_a_failed_lookup_names_its_item(here: Path) -> None:
    with pytest.raises(TaskError, match=r"pets.*item 1: .* has no row for") as error:
        ran(text_of(SQL), here)
    assert error.value.exit_code == 3
