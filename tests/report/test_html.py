"""The HTML report, looked at in a browser: all of it is there, it needs nothing else, and no name can do anything."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import chromium
from conftest import until
from folders import HOSTILE, comparison, interval, run

from pipeline.errors import DataError, WriteError
from pipeline.report.html import page as html
from pipeline.report.html.tables import interval as read_interval
from pipeline.units import bytes_text, digits, duration_text, interval_text, ratio_text, share_text

READY = """() => [...document.querySelectorAll('[data-figure]')].every(
    place => place.offsetParent === null || 'drawn' in place.dataset)"""
SOURCES = """Bokeh.documents.flatMap(doc => [...doc._all_models.values()])
    .filter(model => model.type === 'ColumnDataSource').map(model => Object.fromEntries(
        [...(model.data instanceof Map ? model.data : Object.entries(model.data))].map(([name, column]) =>
            [name, [...column]])))"""
TOOLTIPS = """() => { const found = [];
    const walk = root => root.querySelectorAll('*').forEach(node => {
        if (node.classList.contains('bk-tooltip-content')) found.push(node.textContent);
        if (node.shadowRoot) walk(node.shadowRoot); });
    walk(document);
    return found.join('\\n'); }"""
LAID_OUT = "() => document.documentElement.scrollWidth <= window.innerWidth"


class Page:
    """A report in a browser, and what went on there: errors, warnings, requests, and what a script left behind."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.wrong: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda said: said.type in ("error", "warning") and self.wrong.append(said.text))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: Path) -> None:
        self.page.goto(path.as_uri())
        self.page.wait_for_function(READY)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def table(self, name: str) -> list[list[str]]:
        found: list[list[str]] = self.page.evaluate(
            """name => [...document.querySelectorAll(`[data-table="${name}"] tbody tr`)]
                .map(row => [...row.children].map(cell => cell.textContent))""", name
        )  # fmt: skip
        return found

    def titles(self, name: str) -> list[str]:
        found: list[str] = self.page.evaluate(
            "name => [...document.querySelectorAll(`[data-table='${name}'] thead th`)].map(cell => cell.textContent)",
            name,
        )
        return [title.strip() for title in found]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless browser with a profile of its own, one for all tests: it takes seconds to start."""
    with chromium(tmp_path_factory.mktemp("browser")) as context:
        yield context


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    """A new page; at its end nothing went wrong on it, and nothing but the file itself was asked for."""
    inner = browser.new_page()
    found = Page(inner)
    try:
        yield found
        assert found.wrong == []
        assert found.requests
        assert all(url.startswith("file:") and url.endswith("/report.html") for url in found.requests), found.requests
    finally:
        inner.close()


def test_the_top_is_the_verdict_and_a_reason_for_each_back_end(tmp_path: Path, page: Page) -> None:
    told = comparison(tmp_path)
    page.open(html.write(tmp_path))
    verdict = page.page.locator("#verdict")
    assert verdict.evaluate("node => node.textContent") == told["verdict"][-1]
    assert verdict.evaluate("node => parseFloat(getComputedStyle(node).fontSize)") >= 28
    for row in told["rows"]:
        name = page.page.locator(".name b").get_by_text(row["label"], exact=True)
        line = page.page.locator(".line").filter(has=name)
        assert line.count() == 1
        why = line.locator(".why")
        assert why.evaluate("node => node.textContent") == row["reason"].replace("`", "")
        assert why.locator("b").all_inner_texts() == ([] if row["reference"] else ["Set steps.fit.batch: 8"])
        box = line.locator(".name").bounding_box()
        assert box["y"] + box["height"] <= 800
        said = line.locator(".speedup").inner_text().split()
        assert " ".join(said) == ("reference" if row["reference"] else ratio_text(read_interval(row["speedup"])))
    advice = page.page.locator("#advice")
    assert advice.locator("b").inner_text() == "Set steps.fit.batch: 8"
    assert advice.inner_text().endswith("8. fit has 60 pieces of work. Predicted: 1 s instead of 2 s.")
    assert page.page.locator(".bad, .warning").count() == 0
    assert page.page.evaluate(LAID_OUT)
    page.page.set_viewport_size({"width": 400, "height": 800})
    page.page.wait_for_function(LAID_OUT)


UNREADABLE = """() => { const parts = text => text.match(/[\\d.]+/g).map(Number);
    const light = colour => colour.slice(0, 3).map(x => x / 255)
        .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
        .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
    const paper = node => { for (; node; node = node.parentElement) {
        const found = parts(getComputedStyle(node).backgroundColor); if (found.length < 4 || found[3]) return found; }
        return [255, 255, 255]; };
    return [...document.body.querySelectorAll('*')].filter(node => [...node.childNodes].some(
        child => child.nodeType === 3 && child.textContent.trim()) && node.offsetParent !== null).filter(node => {
            const [a, b] = [parts(getComputedStyle(node).color), paper(node)].map(light).sort((a, b) => b - a);
            return (a + 0.05) / (b + 0.05) < 4.5; }).map(node => node.outerHTML.slice(0, 80)); }"""


@pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(22, 22, 22)")])
def test_it_is_readable_in_light_and_dark_on_the_page_and_in_charts(
    tmp_path: Path, page: Page, scheme: str, paper: str
) -> None:
    comparison(tmp_path, verdict=["x", "Fastest: pool; equal"], warnings=[{"do": "Read", "why": "y"}], problem="none")
    page.page.emulate_media(color_scheme=scheme)
    page.open(html.write(tmp_path))
    assert page.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == paper
    assert page.page.evaluate(UNREADABLE) == []
    titles = page.page.evaluate("""Bokeh.documents.flatMap(doc => [...doc._all_models.values()])
        .filter(model => model.type === 'Title').map(model => model.text_color)""")
    assert set(titles) == {"#e8e8e8" if scheme == "dark" else "#1a1a1a"}


def test_a_failed_back_end_is_marked_and_a_good_result_is_not(tmp_path: Path, page: Page) -> None:
    claim = {
        "claim": "threads are fast",
        "what": "time",
        "measured": interval(1.0),
        "bound": "< 2",
        "verdict": "true",
    }
    warnings = [{"do": "Read why pool did not run", "why": "no room"}, {"do": "Measure again", "why": "it was busy"}]
    told = comparison(tmp_path, claims=[claim], warnings=warnings)
    told["rows"][-1] |= {"failure": "no room", "elapsed": None, "speedup": None}
    (tmp_path / "report.json").write_text(json.dumps(told))
    page.open(html.write(tmp_path))
    assert page.page.locator(".bad").all_inner_texts() == ["Read why pool did not run. No room."]
    assert page.page.locator(".warning b").all_inner_texts() == ["Measure again"]
    assert page.table("claims") == [["threads are fast", "time", "1.00 [0.950, 1.05]", "< 2", "true"]]
    assert page.page.locator("#claims .bad").count() == 0


@pytest.mark.parametrize(("code", "is_bad"), [(130, False), (4, False), (6, True)])
def test_equal_results_are_not_marked_whatever_ended_it(tmp_path: Path, page: Page, code: int, is_bad: bool) -> None:
    comparison(tmp_path, exit_code=code, problem="ended by Ctrl-C")
    page.open(html.write(tmp_path))
    assert (page.page.locator("h1.bad").count() == 1) is is_bad
    assert page.text("#problem.bad") == "ended by Ctrl-C"


def test_a_report_of_an_earlier_version_is_drawn_as_it_was(tmp_path: Path, page: Page) -> None:
    told = comparison(tmp_path, verdict=["it was busy", "fastest: pool; results equal"])
    del told["advice"]
    told["recommendation"] = {"text": "recommended: x", "change": "x", "steps": [], "cause": "gil", "backend": "pool",
                              "workers": 2, "best": 1.0, "predicted": 0.5}  # fmt: skip
    for row in told["rows"]:
        row |= {"reason": "pool: 1.5x of 2 workers; x"}
    (tmp_path / "report.json").write_text(json.dumps(told))
    page.open(html.write(tmp_path))
    assert page.text("#advice") == "recommended: x"
    assert page.page.locator("#advice b, .why b, .warning b").count() == 0
    assert page.page.locator(".warning").all_inner_texts() == ["it was busy"]


def test_every_section_is_there_and_every_chart_is_drawn(tmp_path: Path, page: Page) -> None:
    told = comparison(tmp_path, cases=[("pool", 1), ("pool", 2), ("pool", 4)], scaled=True, reference={
        "call": "census:plain", "elapsed": interval(1.0), "speedup_of_serial": interval(0.8), "equal": "equal",
        "cost": {"pool": 2, "threads": None}})  # fmt: skip
    page.open(html.write(tmp_path))
    titles = page.page.locator("h2").all_inner_texts()
    assert titles == ["Speed", "Where the core-seconds went", "The speedup as a product", "More workers",
                      "Compared with one thread", "Timeline", "The steps", "Where the numbers come from"]  # fmt: skip
    figures = page.page.locator("[data-figure]").evaluate_all("places => places.map(place => place.id)")
    assert figures == ["elapsed", "speedup", "losses", "scaling-0", *(f"timeline-{i}" for i in range(4))]
    for i, account in enumerate(told["accounts"]):
        page.page.click(f"#tab-{i}")
        page.page.wait_for_function(READY)
        assert page.page.locator(f"#panel-{i} h3").first.inner_text() == f"{account['case']}, run 2"
        assert page.page.locator("[role=tabpanel]:visible").count() == 1
    assert page.table("cost") == [["pool", "2"], ["threads", "no measured number"]]
    assert "1.00 [0.950, 1.05] s in one thread, 0.80x [0.76, 0.84] of serial; results equal" in page.text("#reference")
    assert "census:plain" in page.text("#reference")
    assert "Dashed lines are extrapolated" in page.text("#scaling")
    lines = [s for s in page.page.evaluate(SOURCES) if set(s) >= {"x", "y"} and len(s["x"]) > 2]
    curve = [point for point in told["scaling"][0]["curve"] if point["extrapolated"]]
    assert any(set(s["x"]) >= {p["workers"] for p in curve} for s in lines)
    assert page.page.locator("#config").text_content() == told["config"]
    assert told["footnotes"][0] in page.text("#origin")


def test_the_tables_hold_the_numbers_of_the_document(tmp_path: Path, page: Page) -> None:
    told = comparison(tmp_path)
    page.open(html.write(tmp_path))
    assert page.table("rows") == [
        [
            row["label"],
            str(row["workers"]),
            "3",
            interval_text(read_interval(row["elapsed"])),
            "1" if row["reference"] else ratio_text(read_interval(row["speedup"])),
            "-" if row["reference"] else f"{row['efficiency']:.0%}",
            "1" if row["reference"] else ratio_text(read_interval(row["speedup_all"])),
            row["equality"],
        ]
        for row in told["rows"]
    ]
    assert page.table("costs") == [
        [row["label"], digits(row["elapsed"]["value"]), digits(row["user"]), digits(row["system"]),
         *((share_text(row.get("saved")) or "-",) if any(one.get("saved") is not None for one in told["rows"]) else ()),
         *(duration_text(row[n]) for n in ("start_up", "verify", "commit")), bytes_text(row["memory"])]
        for row in told["rows"]
    ]  # fmt: skip
    names = ("useful", "inflation", "runtime", "transfer", "scheduling", "limit", "dependency", "unexplained")
    assert page.titles("losses")[1:-1] == [
        "useful", "inflation", "runtime", "transfer + serialization", "scheduling", "limit", "dependency wait",
        "unexplained",
    ]  # fmt: skip
    for account, row in zip(told["accounts"], page.table("losses"), strict=True):
        cells = [cell.split("\n") for cell in row[1:]]
        losses = [account["losses"][name] for name in names]
        assert [cell[0] for cell in cells[:-1]] == [f"{digits(loss['seconds'])} s" for loss in losses]
        percents = [int(cell[1].removesuffix("%")) for cell in cells[:-1]]
        assert percents == [loss["percent"] for loss in losses]
        assert sum(percents) == 100
        assert cells[1][2] == f"[{digits(losses[1]['low'])}, {digits(losses[1]['high'])}]"
        assert cells[-1] == [f"{digits(account['workers'] * account['elapsed'])} s", "100%"]
    order = ("computation_scaling", "load_balance", "serialization_efficiency", "transfer_efficiency", "overhead")
    for account, row in zip(told["accounts"], page.table("factors"), strict=True):
        factors = account["factors"]
        assert row[1:3] == [f"{factors['speedup']:.2f}", f"= {factors['n_workers']}"]
        assert row[3:] == [f"x {factors[name]:.3f}" for name in order]
        product = float(row[2].removeprefix("= "))
        for cell in row[3:]:
            product *= float(cell.removeprefix("x "))
        assert product == pytest.approx(factors["speedup"], rel=0.005)
    for i, account in enumerate(told["accounts"]):
        critical = account["critical"]
        kinds = [duration_text(critical[kind]) for kind in ("compute", "data-wait", "core-wait")]
        assert page.table(f"panel-{i}-0") == [
            ["seconds", *kinds, duration_text(account["elapsed"]), duration_text(account["span"])]
        ]
        assert page.table(f"panel-{i}-1") == [[step, duration_text(s)] for step, s in critical["steps"].items()]
        assert page.table(f"panel-{i}-2") == [
            [s["step"], f"{s['n_tasks']:,}", *(duration_text(s[n]) for n in ("seconds", "useful", "cpu")),
             bytes_text(s["bytes_out"]), bytes_text(s["bytes_moved"])]
            for s in account["steps"]
        ]  # fmt: skip
        assert page.table(f"panel-{i}-3") == [
            [t["key"], t["step"], t["worker"], duration_text(t["seconds"]), duration_text(t["useful"])]
            for t in account["tasks"]
        ]
    environment = told["environment"]
    assert page.table("machine")[-2:] == [["memory", bytes_text(environment["memory"])],
                                          ["versions", "dask 2026.8.0, numpy 2.4.1"]]  # fmt: skip
    assert page.table("inputs") == [["data/a.csv", "1.5 kB", "ab" * 32]]
    assert page.table("code") == [["census.model:fit", "cd" * 32]]


def test_names_that_are_scripts_markup_or_tex_stay_text(tmp_path: Path, page: Page) -> None:
    reason = "threads: `<img src=x onerror=window.hurt=5>` & </script><script>window.hurt=6</script>"
    told = comparison(tmp_path, steps=HOSTILE, name=HOSTILE[0], problem=HOSTILE[2], exit_code=6)
    for row in told["rows"][1:]:
        row |= {"reason": reason, "label": f"{row['label']} {HOSTILE[3]}"}
    for account in told["accounts"]:
        account["case"] = f"{account['case']} {HOSTILE[1]}"
    told |= {"inputs": {HOSTILE[1]: {}}, "footnotes": [HOSTILE[4]], "verdict": [HOSTILE[2], HOSTILE[0]]}
    (tmp_path / "report.json").write_text(json.dumps(told))
    page.open(html.write(tmp_path))
    assert page.page.title() == f"{HOSTILE[0]}: comparison"
    assert page.text("#verdict") == HOSTILE[0]
    assert page.text("#problem") == HOSTILE[2]
    assert page.page.locator(".why").nth(1).inner_text() == reason.replace("`", "")
    long = HOSTILE[5].replace("\u2028", "\\u2028").replace("\u202e", "\\u202e").replace("\x07", "\\x07")
    legend = {text.strip() for text in page.page.locator("#legend li").all_text_contents()}
    assert legend == {name.strip() for name in (*HOSTILE[:5], long)}
    titles = page.page.locator("#graph title").all_text_contents()
    assert titles[:2] == [f"{HOSTILE[0]}: array, 10 tasks", f"{HOSTILE[1]}: array, 10 tasks"]
    for i in range(len(told["accounts"])):
        page.page.click(f"#tab-{i}")
        page.page.wait_for_function(READY)
    page.page.locator("[id^=timeline]:visible").scroll_into_view_if_needed()
    box = page.page.locator("[id^=timeline]:visible").bounding_box()
    seen: set[str] = set()
    places = itertools.cycle(range(120, int(box["width"]) - 20, 30))

    def all_seen() -> bool:
        page.page.mouse.move(box["x"] + next(places), box["y"] + 65)
        page.page.wait_for_timeout(30)
        seen.update(name for name in HOSTILE[:5] if name in page.page.evaluate(TOOLTIPS))
        return seen >= set(HOSTILE[:3])

    assert until(all_seen)
    assert page.page.evaluate("window.hurt") is None
    assert page.page.locator("img[src=x]").count() == 0
    assert page.page.locator("script").count() == 3


def test_the_policy_stops_a_script_that_got_in_all_the_same(tmp_path: Path, browser: Any) -> None:
    comparison(tmp_path)
    path = html.write(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "unsafe-eval" not in text[:3_000]
    bad = '<script>window.hurt=1</script><img src="x" onerror="window.hurt=2"><img src="http://127.0.0.1:9/x">'
    path.write_text(text.replace("<body>\n", f"<body>\n{bad}", 1), encoding="utf-8")
    inner = browser.new_page()
    refused: list[str] = []
    inner.on("console", lambda said: refused.append(said.text))
    inner.goto(path.as_uri())
    inner.wait_for_function(READY)
    assert inner.evaluate("window.hurt") is None
    assert inner.evaluate("fetch('http://127.0.0.1:9/').then(() => 'got', () => 'refused')") == "refused"
    while sum("Content Security Policy" in text for text in refused) < 4:  # each is told when the page gets to it
        inner.wait_for_event("console")
    inner.close()


def test_the_timeline_has_each_task_and_the_critical_path(tmp_path: Path, page: Page) -> None:
    told = comparison(tmp_path, cases=[("processes", 2)], n_tasks=60)
    page.open(html.write(tmp_path))
    account = told["accounts"][1]
    sources = [s for s in page.page.evaluate(SOURCES) if "bytes_out" in s]
    tasks = {task: i for s in sources for i, task in enumerate(s["task"])}
    assert len(tasks) == 60
    path = {s["key"] for s in account["critical_path"] if s["kind"] == "compute"}
    assert {frozenset(s["task"]) for s in sources} == {frozenset(path), frozenset(set(tasks) - path)}
    first = next(s for s in account["critical_path"] if s["kind"] == "compute")
    source = next(s for s in sources if first["key"] in s["task"])
    i = source["task"].index(first["key"])
    assert (source["left"][i], source["right"][i]) == pytest.approx((first["start"], first["stop"]))
    assert source["worker"][i] == first["worker"]
    assert source["seconds"][i] == duration_text(first["stop"] - first["start"])
    assert source["bytes_in"][i] == "1.0 kB"
    page.page.locator("[id^=timeline]:visible").scroll_into_view_if_needed()
    box = page.page.locator("[id^=timeline]:visible").bounding_box()
    shown = (
        "() => Bokeh.documents.flatMap(d => [...d._all_models.values()]).find(m => m.type === 'Range1d' && m.bounds)"
    )
    before = page.page.evaluate(f"({shown})().end - ({shown})().start")
    page.page.mouse.move(box["x"] + 300, box["y"] + 60)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 500, box["y"] + 60, steps=5)
    page.page.mouse.up()
    page.page.wait_for_function(f"() => ({shown})().end - ({shown})().start < {before} / 2")


def test_a_run_alone_has_no_speedup_and_says_where_the_time_went(tmp_path: Path, page: Page) -> None:
    told = run(tmp_path)
    page.open(html.write(tmp_path))
    assert page.text("#verdict") == told["verdict"][-1]
    assert page.page.locator("h2").all_inner_texts() == [
        "Speed", "Where the core-seconds went", "Timeline", "The steps", "Where the numbers come from"
    ]  # fmt: skip
    assert page.titles("losses")[1] == "in tasks"
    assert page.titles("rows") == ["back end", "workers", "runs", "elapsed, s"]
    assert page.page.locator("[role=tab]").count() == 0
    assert page.page.locator("[data-figure]").evaluate_all("places => places.map(p => p.id)") == [
        "losses",
        "timeline-0",
    ]
    assert "serial" not in page.text("#runs")


def test_what_is_not_known_leaves_out_its_section(tmp_path: Path, page: Page) -> None:
    told = comparison(tmp_path)
    told |= {"accounts": [], "environment": {}, "inputs": {}, "code": {}, "config": "", "footnotes": []}
    told["graph"] = {"steps": [], "edges": []}
    for row in told["rows"][1:]:
        row |= {"failure": "worker 3 ended by SIGKILL", "elapsed": None, "speedup": None, "exit_code": 4}
    told["verdict"] = ["threads did not run: worker 3 ended by SIGKILL", "fastest: serial"]
    (tmp_path / "report.json").write_text(json.dumps(told))
    page.open(html.write(tmp_path))
    assert page.page.locator("h2").all_inner_texts() == ["Speed", "Where the numbers come from"]
    assert page.page.locator("main h3, main svg").count() == 0
    assert page.text("header").count("worker 3 ended by SIGKILL") == 2  # once a row
    assert [row[3] for row in page.table("rows")][1:] == ["did not run", "did not run"]


def test_negative_inflation_stands_left_of_zero(tmp_path: Path, page: Page) -> None:
    told = comparison(tmp_path, cases=[("pool", 2)])
    losses = told["accounts"][1]["losses"]
    losses["inflation"] = {"seconds": -0.5, "percent": -20, "low": -0.6, "high": -0.4}
    (tmp_path / "report.json").write_text(json.dumps(told))
    page.open(html.write(tmp_path))
    assert page.table("losses")[1][2].split("\n") == ["-0.500 s", "-20%", "[-0.600, -0.400]"]
    (source,) = [s for s in page.page.evaluate(SOURCES) if s.get("what") == ["inflation"]]
    assert (source["left"], source["right"]) == ([-0.5], [0])
    assert "left of 0" in page.text("#losses-section")


def test_a_trace_that_is_gone_broken_or_elsewhere_is_said(tmp_path: Path, page: Page) -> None:
    folder = tmp_path / "run"
    told = comparison(folder, cases=[("threads", 2), ("pool", 2), ("processes", 2)])
    (folder / "threads-2" / "trace.parquet").unlink()
    (folder / "pool-2" / "trace.parquet").write_bytes(b"PAR1 is not enough")
    (folder / "processes-2" / "trace.parquet").rename(tmp_path / "outside.parquet")
    told["accounts"][3]["trace"] = "../outside.parquet"
    told["accounts"].append(told["accounts"][3] | {"trace": "no\0name"})
    (folder / "report.json").write_text(json.dumps(told))
    page.open(html.write(folder))
    notes = page.page.locator("[id^=panel] .note").all_text_contents()
    names = [account["trace"].replace("\0", "\\x00") for account in told["accounts"][1:]]
    assert notes == [f"Its Trace is missing: {name}." for name in names]
    assert page.page.locator("[data-figure][id^=timeline]").count() == 1


@pytest.mark.parametrize("n_tasks", [12_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_tasks_are_merged_into_a_page_below_10_mb(tmp_path: Path, page: Page, n_tasks: int) -> None:
    steps = [f"a_step_with_a_long_name_{i}" for i in range(12)]
    told = run(tmp_path, steps=steps, n_tasks=n_tasks)
    path = html.write(tmp_path)
    assert path.stat().st_size < html.LARGEST
    page.open(path)
    note = page.text(".merged")
    assert note.startswith(f"{n_tasks:,} tasks are drawn as ")
    assert "the 500 longest tasks" in note
    sources = [s for s in page.page.evaluate(SOURCES) if "bytes_out" in s]
    shown = sum(
        int(task.removesuffix(" tasks").replace(",", "")) if task.endswith(" tasks") else 1
        for s in sources
        for task in s["task"]
    )
    n_bars = sum(len(s["task"]) for s in sources)
    assert note.startswith(f"{n_tasks:,} tasks are drawn as {n_bars:,} bars: ")
    assert n_bars < n_tasks
    assert shown == n_tasks
    longest = told["accounts"][0]["tasks"][0]["key"]
    assert any(longest in s["task"] for s in sources)


def test_long_names_make_the_page_coarser_and_not_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, steps=["é" * 400, "b" * 400], n_tasks=4_000)
    whole = html.write(tmp_path).stat().st_size
    monkeypatch.setattr(html, "LARGEST", whole - 100_000)
    path = html.write(tmp_path)
    assert path.stat().st_size <= whole - 100_000
    assert "4,000 tasks are drawn as " in path.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    path = html.write(tmp_path)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1000])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WriteError, match="no space"):
        html.write(tmp_path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


def test_a_folder_without_a_report_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"report\.json: is no report"):
        html.write(tmp_path)
    assert list(tmp_path.iterdir()) == []
