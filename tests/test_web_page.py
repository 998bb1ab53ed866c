"""docs/web.md: its steps are run, each block after those above it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pages import blocks
from serially import values_of
from web_site import Handler, Server, a, page

PAGE = Path(__file__).parents[1] / "docs" / "web.md"


def fill(folder: Path) -> None:
    """The files that the page names."""
    (folder / "people.csv").write_text("id,name\n1,Ada\n2,Ben\n")
    (folder / "homes.csv").write_text("person,city\n2,Bonn\n1,Rome\n")
    database = sqlite3.connect(folder / "pets.sqlite")
    with database:
        database.execute("create table pets (owner integer, name text, kind text)")
        database.execute("insert into pets values (1, 'Rex', 'dog')")
    database.close()


def answer(request: Handler) -> None:
    """A service at /pets, and a site with a dead link."""
    url = urlsplit(request.path)
    if url.path == "/pets":
        request.send(200, json.dumps([{"owner": parse_qs(url.query)["owner"]}]), "application/json", Connection="close")
    else:
        request.send(200 if url.path == "/" else 404, page(a("/"), a("/dead")), Connection="close")


def test_the_steps_of_the_web_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    lines = [line for block in blocks(PAGE) for line in block.text.splitlines()]
    names = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
    steps = "".join(f"  {line}\n" for line in lines)
    with Server(answer) as server:
        monkeypatch.setenv("SERVICE", server.url)
        monkeypatch.setenv("SITE", f"{server.url}/")
        got = values_of(f"keep: [{', '.join(names)}]\nsteps:\n{steps}", tmp_path)
    assert got["table"].drop(columns="key").values.tolist() == [["Ada", "Rex", "dog"]]
    assert [home["city"] for home in got["homes"]] == ["Rome", "Bonn"]
    assert list(got["services"]) == [[{"owner": ["1"]}], [{"owner": ["2"]}]]
    assert got["shown"].values.tolist() == [[f"{server.url}/dead", 404, "Not Found", f"{server.url}/", 1]]
