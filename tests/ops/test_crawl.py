"""``crawl``: the links of a site of 300 pages are as known, whatever the site does, and nothing else is requested."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from serially import graph_of
from web_site import Handler, Server, Site, a, page, truth

import pipeline
from pipeline.errors import ConfigError, DataError
from pipeline.ops.web.robots import Rules

LIMITS: dict[str, Any] = {"depth": 3, "page_bytes": "200kB", "rate": "10000/s", "timeout": "60s"}


@pytest.fixture
def other() -> Iterator[Server]:
    """The site that nothing may be asked of."""
    with Server() as server:
        yield server
    assert not server.requests


def crawl(url: str, folder: Path, backend: str = "serial", workers: int = 1, **keys: Any) -> pd.DataFrame:
    p = pipeline.Pipeline("site")
    p.step("links", op="crawl", url=url, **{**LIMITS, **keys})
    r = p.run(backend=backend, workers=workers, out=folder / backend, runs=folder / "runs")
    links: pd.DataFrame = r["links"]
    return links


def differences(links: pd.DataFrame, site: Site) -> list[str]:
    """How a table differs from what is known of the site."""
    known = truth(site)
    got = {row.url: (row.result, row.status, row.reason) for row in links.itertuples()}
    assert len(got) == len(links)
    return [
        f"{url}: {got.get(url)}, not {known.get(url)}"
        for url in sorted(got.keys() | known.keys())
        if got.get(url, ())[:2] != known.get(url, ())[:2] or not got[url][2].startswith(known[url][2])
    ]


def without_ports(links: pd.DataFrame, site: Site) -> list[tuple[Any, ...]]:
    """The rows of a table as of a site at another port, without their times."""
    text = links.drop(columns="seconds").to_json(orient="values")
    text = text.replace(site.other.replace("/", "\\/"), "OTHER").replace(str(site.server_port), "PORT")
    return sorted(map(tuple, json.loads(text)))


# ---------------------------------------------------------------------------------------------------------------------
# The whole site
# ---------------------------------------------------------------------------------------------------------------------


@cache
def expected(pages: int, folder: Path) -> list[tuple[Any, ...]]:
    """The rows that ``serial`` gives."""
    with Server() as other, Site(other.url, pages=pages) as site:
        links = crawl(f"{site.url}/", folder)
        assert not differences(links, site)
        require_polite(site)
        assert not other.requests
        return without_ports(links, site)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serial")


def require_polite(site: Site) -> None:
    """Fail if a page was asked for twice, or one that robots.txt disallows."""
    twice = {path for path, n in site.requests.items() if n > 1}
    assert twice <= {"/closes"}, "a connection that was kept open may have been closed before: one more try"
    assert not [path for path in site.requests if path.startswith("/private/") and path != "/private/open"]


LONG = [pytest.param(backend, 28, marks=pytest.mark.slow) for backend in ("processes", "dask")]


@pytest.mark.parametrize(("backend", "pages"), [("threads", 28), ("processes", 2), ("dask", 2), *LONG])
def test_the_table_is_the_truth_on(backend: str, pages: int, folder: Path, other: Server, tmp_path: Path) -> None:
    with Site(other.url, pages=pages) as site:
        links = crawl(f"{site.url}/", tmp_path, backend, workers=4 if backend == "threads" else 2)
        assert not differences(links, site)
        require_polite(site)
    assert len(links) == 113 + 10 * pages
    assert without_ports(links, site) == expected(pages, folder)
    assert links[["depth", "url"]].apply(tuple, axis=1).is_monotonic_increasing


def test_slow_headers_and_bodies_end_at_the_timeout(other: Server, tmp_path: Path) -> None:
    with Site(other.url, slow=True) as site:
        site.do_index = lambda request, rest, query: request.send(200, page(a("slowbody"), a("slowhead")))  # type: ignore[method-assign]
        links = crawl(f"{site.url}/", tmp_path, "threads", workers=8, timeout="2s").set_index("url")
    assert links.reason[f"{site.url}/slowbody"] == links.reason[f"{site.url}/slowhead"] == "no end within 2 s"
    assert links.status.tolist() == [200, 200, 0]
    assert links.result.tolist() == ["ok", "dead", "dead"]


def test_where_a_link_was_found_and_how_often(other: Server, tmp_path: Path) -> None:
    with Site(other.url) as site:
        links = crawl(f"{site.url}/", tmp_path, contact="mailto:me@example.org").set_index("url")
    dead = links.loc[f"{site.url}/dead/4"]
    assert dead.found_on == f"{site.url}/page/4/0"
    assert dead.n_found == 28
    assert dead.depth == 3
    assert dead.kind == "page"
    assert links.kind[f"{site.url}/dead.css"] == "style"
    assert links.kind[f"{site.url}/img/dead2.png"] == "image"
    assert links.redirect[f"{site.url}/r/chain"] == f"{site.url}/page/2/2"
    assert links.redirect[f"{site.url}/r/off"] == f"{other.url}/redirected"
    assert links.redirect[f"{site.url}/r/letter"] == f"{site.url}/%C3%BC"
    assert links.redirect[f"{site.url}/r/idn"] == "http://xn--bcher-kva.example/"
    assert site.agents == {f"Pipeline/{pipeline.__version__} (+mailto:me@example.org)"}
    assert not (links.index.str.contains("secret") | links.redirect.str.contains("secret")).any()


# ---------------------------------------------------------------------------------------------------------------------
# Going on after an interruption
# ---------------------------------------------------------------------------------------------------------------------


KILLS = [("threads", signal.SIGINT), ("processes", signal.SIGKILL)]
MORE_KILLS = [("threads", signal.SIGKILL), ("processes", signal.SIGINT), ("dask", signal.SIGINT)]


@pytest.mark.parametrize(
    ("backend", "number"), [*KILLS, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in MORE_KILLS)]
)
def test_an_interrupted_crawl_goes_on(backend: str, number: int, other: Server, tmp_path: Path) -> None:
    with Site(other.url, pages=3) as site:
        steps = f"links: {{op: crawl, url: '{site.url}/', depth: 3, page_bytes: 200kB, rate: 10000/s, state: kept}}"
        output = "links: {to: parquet, path: links}"
        (tmp_path / "site.yaml").write_text(f"version: 1\nsteps:\n  {steps}\noutputs:\n  {output}\n")
        command = [
            sys.executable,
            "-m",
            "pipeline",
            "run",
            "site.yaml",
            "--backend",
            backend,
            "--workers",
            "2",
            "--out",
            "out",
        ]
        answer = site.answer

        def answer_or_stop(request: Handler) -> None:
            if request.path == "/page/4/1":
                site.answer = answer  # type: ignore[method-assign]
                os.kill(process.pid, number)
            answer(request)

        site.answer = answer_or_stop  # type: ignore[method-assign]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert process.wait() == (130 if number == signal.SIGINT else -signal.SIGKILL)
        before = site.requests.copy()
        links = crawl(f"{site.url}/", tmp_path, state=str(tmp_path / "kept"))
        assert not differences(links, site)
        again = {path for path in before if site.requests[path] > before[path]}
        no_answer = {"/closes", "/garbage", "/short", "/badzip", "/cutzip", "/robots.txt"}
        assert len(again - no_answer) <= 2, "those that each worker had asked for, and whose answer was not there yet"
        total = site.requests.copy()
        crawl(f"{site.url}/", tmp_path, state=str(tmp_path / "kept"))
        assert set(site.requests - total) <= no_answer
        crawl(f"{site.url}/", tmp_path, state=str(tmp_path / "kept"), max_age="1ms")
        assert site.requests["/page/0/0"] > total["/page/0/0"]


def test_damaged_and_foreign_records_are_misses(tmp_path: Path) -> None:
    with Server() as site:
        first = crawl(f"{site.url}/", tmp_path, state=str(tmp_path / "kept"))
        (file,) = (tmp_path / "kept").glob("*/*.json")
        record = json.loads(file.read_text())
        for text in ("", "[]", "{", "[" * 100_000, *(json.dumps({**record, k: {}}) for k in record)):
            file.write_text(text)
            asked = site.requests["/"]
            again = crawl(f"{site.url}/", tmp_path, state=str(tmp_path / "kept"))
            assert again.drop(columns="seconds").equals(first.drop(columns="seconds"))
            assert site.requests["/"] == asked + 1, text[:80]


# ---------------------------------------------------------------------------------------------------------------------
# Traps and limits
# ---------------------------------------------------------------------------------------------------------------------


def test_traps_end(other: Server, tmp_path: Path) -> None:
    with Site(other.url) as site:
        links = crawl(f"{site.url}/session?id=1", tmp_path, depth=6, split=2)
        assert len(links) == 2**7 - 1
        links = crawl(f"{site.url}/deep/", tmp_path, depth=20, split=2)
        assert links.reason.tolist() == ["", "", "", "its path repeats a segment 4 times"]
        links = crawl(f"{site.url}/longer?x=1", tmp_path, depth=20, split=2)
        assert links.reason.tolist() == ["", "", "", "is longer than 2,000 characters"]
        links = crawl(f"{site.url}/calendar/1", tmp_path, depth=9, pages=6, split=2)
        assert links.result.tolist() == ["ok"] * 6 + ["skipped"]
        assert links.reason.tolist()[-1] == "limit: 6 pages"


def test_the_limit_of_bytes_ends_a_crawl(tmp_path: Path) -> None:
    with Server(lambda request: request.send(200, page(*map(a, "abcdefgh"), " " * 50_000))) as site:
        links = crawl(f"{site.url}/", tmp_path, bytes="200kB", split=2)
    reasons = links.reason.value_counts().to_dict()
    assert links.result.value_counts().to_dict() == {"ok": 5, "skipped": 4}
    assert reasons.pop("") == 3, "one page, then one for each task, and one that is cut"
    assert reasons.pop("limit: 200,000 bytes") == 4
    assert all(reason.startswith("cut off after 24,") for reason in reasons)


def test_no_more_requests_than_the_rate_allows(tmp_path: Path) -> None:
    robots = "User-agent: *\nCrawl-delay: 0.05"

    def answer(request: Handler) -> None:
        if request.path == "/robots.txt":
            request.send(200, robots, "text/plain")
        else:
            request.send(200, page(*(a(f"/{i}") for i in range(20))))

    for backend, rate, delay in (("processes", "20/s", ""), ("threads", "10000/s", robots)):
        robots = delay
        with Server(answer) as site:
            crawl(f"{site.url}/", tmp_path, backend, workers=2, depth=1, rate=rate)
            times = sorted(site.times)[1:]  # the delay is known after robots.txt
            assert len(times) == 21
            assert times[-1] - times[0] > 20 * 0.05 * 0.9  # the last one may have waited less for its turn


def test_the_time_ends_a_crawl(tmp_path: Path) -> None:
    with Server(lambda request: request.send(200, page(a("/1"), a("/2")))) as site:
        with pytest.raises(DataError, match=r"can't be crawled: limit: 0.001 s"):
            crawl(f"{site.url}/", tmp_path, rate="1/s", time="1ms")
        assert set(site.requests) == {"/robots.txt"}


# ---------------------------------------------------------------------------------------------------------------------
# robots.txt, the start page, and what is refused
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (404, {}, ""),
        (403, {}, ""),
        (503, {}, "robots.txt gave no answer"),
        (302, {"Location": "http://127.0.0.2:9/robots.txt"}, "robots.txt is on another site"),
        (302, {"Location": "/robots.txt"}, ""),
        (302, {"Location": "/x\ty"}, "robots.txt leads to what is no valid URL"),
        (302, {"Location": "mailto:a@example.org"}, "robots.txt leads to what mailto: is not requested"),
    ],
)
def test_what_robots_txt_may_answer(status: int, headers: dict[str, str], said: str, tmp_path: Path) -> None:
    def answer(request: Handler) -> None:
        is_robots = request.path == "/robots.txt"
        request.send(status if is_robots else 200, page(), **(headers if is_robots else {}))

    with Server(answer) as site:
        if said:
            with pytest.raises(DataError, match=said):
                crawl(f"{site.url}/", tmp_path, depth=1)
            assert set(site.requests) == {"/robots.txt"}
        else:
            assert crawl(f"{site.url}/", tmp_path, depth=1).result.tolist() == ["ok"]
    assert site.requests["/robots.txt"] <= 6


@pytest.mark.parametrize(
    ("agent", "is_ours"),
    [
        *[
            (name, True)
            for name in ("Pipeline", "pipeline", "PIPELINE/1.0", "Pipeline (+x)", "Pipeline2", "Pipeline#x")
        ],
        *[
            (name, False)
            for name in ("Pi", "Pipe", "line", "Pipeline-news", "*Pipeline", "x Pipeline", "Pipelines", "")
        ],
    ],
)
def test_a_group_of_robots_txt_holds_for_a_whole_name(agent: str, is_ours: bool) -> None:
    rules = f"User-agent: {agent}\nDisallow: /x\nCrawl-delay: 7\n"
    found = Rules(f"{rules}User-agent: * # all\nDisallow: /user-agent: x\n")
    assert found.allows("http://a.example/x") is not is_ours
    assert found.allows("http://a.example/user-agent: x") is is_ours
    assert found.delay == 7 * is_ours
    assert Rules(rules).allows("http://a.example/x") is not is_ours
    assert not Rules(f"{rules}User Agent Pipeline/2\nDisallow: /y").allows("http://a.example/y")


def test_a_start_page_of_another_site_is_named(other: Server, tmp_path: Path) -> None:
    def answer(request: Handler) -> None:
        is_robots = request.path == "/robots.txt"
        request.send(404 if is_robots else 301, Location=f"{other.url}/home")

    named = rf"leads to another site; write url: {other.url}/home"
    with Server(answer) as site, pytest.raises(DataError, match=named):
        crawl(f"{site.url}/", tmp_path, depth=1)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("url: 'http://a.example/ http://b.example/', depth: 1", "a crawl is of one site: write a step for each"),
        ("url: 'ftp://a.example/', depth: 1", "write http:// or https://"),
        ("url: 'http://u:p@a.example/', depth: 1", "pages behind a password can't be crawled"),
        ("url: 'http://a.example/', depth: 21", "depth takes a whole number >= 1 and <= 20"),
        ("url: 'http://a.example/', depth: 1, state: .", "holds something else than pages of a crawl"),
        ("url: 'http://a.example/', depth: 1, bytes: many", "a size is a number of bytes"),
    ],
)
def test_what_a_crawl_does_not_take(keys: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("")
    with pytest.raises(ConfigError) as error:
        graph_of(f"steps:\n  links: {{op: crawl, {keys}}}\n", tmp_path)
    assert said in str(error.value)
    assert "test.yaml:3" in str(error.value)
