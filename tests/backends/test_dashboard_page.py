"""The page of the steps on a Dask dashboard: what it counts, what a browser shows, and that it is removed."""

from __future__ import annotations

import json
import operator
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from browsing import chromium
from conftest import until
from dask_tasks import graph, held, load, mapped, page_on, wait_for
from distributed import Client
from schedulers import Standing, process, scheduler, worker

from pipeline.backends import registry
from pipeline.backends.dask import dashboard_page
from pipeline.backends.dask.backend import Dask
from pipeline.backends.dask.dashboard_client import outline
from pipeline.backends.dask.keys import lower
from pipeline.errors import TaskError
from pipeline.graph.fusion import fuse
from pipeline.graph.graph import Graph, Key, Policy
from pipeline.graph.nodes import constant, listed, ref, task
from pipeline.graph.segments import Dropped
from pipeline.trace.time_left import Estimate
from pipeline.units import time_left_text

HOSTILE = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>'


# ---------------------------------------------------------------------------------------------------------------------
# Graphs to run
# ---------------------------------------------------------------------------------------------------------------------


def fail_hostile(i: int) -> int:
    if i == 2:
        raise ValueError(HOSTILE)
    return i


def fail_once(i: int, path: str) -> int:
    if not os.path.exists(path):
        Path(path).touch()
        raise ValueError("no luck with secret-token")
    return i


def drop(i: int) -> Any:
    return Dropped("ValueError: odd") if i % 2 else i


def long(path: Path) -> Graph:
    """Forty steps of one task, each of which needs the one before; the last waits for a file."""
    tasks: dict[Key, Any] = {("s00", 0): task(("s00", 0), load, 0)}
    for i in range(1, 40):
        before, key = list(tasks)[-1], (f"s{i:02}", 0)
        tasks[key] = task(key, wait_for, ref(before), str(path)) if i == 39 else task(key, bytes, ref(before))
    return graph(tasks, ("s39", 0), **{str(key[0]): Policy(str(key[0]), merge=False) for key in tasks})


def failing() -> Graph:
    tasks: dict[Key, Any] = {("fit", i): task(("fit", i), fail_hostile, i) for i in range(4)}
    tasks["total", 0] = task(("total", 0), sum, listed(ref(("fit", i)) for i in range(4)))
    items = tuple(f"x=<b>{i}</b>" for i in range(4))
    return graph(tasks, ("total", 0), fit=Policy("fit", over="fit", items=items, merge=False))


@pytest.fixture(scope="module")
def local() -> Iterator[Dask]:
    with registry.create("dask", workers=2, dashboard=True) as backend:
        assert isinstance(backend, Dask)
        yield backend


def data(url: str, run: str = "") -> dict[str, Any]:
    with urlopen(f"{url}/data.json?run={run}") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def steps(url: str) -> dict[str, dict[str, Any]]:
    run = data(url)["run"]
    return {step["name"]: step for step in run["steps"]} if run else {}


# ---------------------------------------------------------------------------------------------------------------------
# The outline of a run, and what is counted
# ---------------------------------------------------------------------------------------------------------------------


def outlined() -> tuple[dict[str, Any], Any]:
    """Two copies of ``load`` whose tasks each end in the segment of a ``mean``, and one ``top`` of all."""
    tasks: dict[Key, Any] = {("zero",): constant(("zero",), 0)}
    owners = {("zero",): "load[a]"}
    for copy in "ab":
        for name, needs in (("load", ("zero",)), ("mean", (f"load[{copy}]", 0))):
            key = (f"{name}[{copy}]", 0)
            tasks[key], owners[key] = task(key, abs, ref(needs)), f"{name}[{copy}]"
    tasks["top", 0] = task(("top", 0), max, ref(("mean[a]", 0)), ref(("mean[b]", 0)))
    owners["top", 0] = "top"  # type: ignore[index]
    policies = {f"{name}[{copy}]": Policy(name) for name in ("load", "mean") for copy in "ab"}
    made = Graph(tasks, (("top", 0),), owners, {**policies, "top": Policy("top")})  # type: ignore[arg-type]
    plan = lower(fuse(made, n_workers=2), made.wanted, None, "run", "topic", "")
    return outline(made, plan, "r1", "client"), plan


def test_the_outline_joins_instances_and_leaves_out_constants() -> None:
    about, plan = outlined()
    assert about["steps"] == [("load", 2), ("mean", 2), ("top", 1)]
    assert about["instances"] == {"load[a]": 0, "load[b]": 0, "mean[a]": 1, "mean[b]": 1, "top": 2}
    assert [box["text"] for box in about["boxes"]] == ["load", "mean", "top"]
    assert [path.partition(" ")[0] for path in about["paths"]] == [f"M{about['size'][0] / 2:.1f}"] * 2
    assert [box["y"] for box in about["boxes"]] == sorted({box["y"] for box in about["boxes"]})
    assert [[step for step in segment if step is not None] for segment in about["segments"]] == [[0, 1], [0, 1], [2]]
    assert [(segment, step, main) for _, segment, step, main in about["places"]] == [
        (0, 1, True), (1, 1, True), (2, 2, True)]  # fmt: skip
    assert {key for key, *_ in about["places"]} == set(plan.tasks)


def test_the_plugin_counts_tasks_and_bytes_by_step() -> None:
    about, _ = outlined()
    tasks = {key: SimpleNamespace(get_nbytes=lambda: 500) for key, *_ in about["places"]}
    one = dashboard_page._DashboardPlugin(SimpleNamespace(tasks=tasks, workers={}))
    one.begin(about)
    key = about["places"][0][0]
    report = {"run": "r1", "segment": 0, "rows": [], "dropped": [["mean[a]", "x", "no"]], "failed": None, "missing": []}

    def now() -> list[tuple[int, int, int, int]]:
        return [(s["done"], s["running"], s["held"], s["dropped"]) for s in one.content("")["run"]["steps"]]

    one.transition(key, "waiting", "processing")
    assert now() == [(0, 1, 0, 0), (0, 1, 0, 0), (0, 0, 0, 0)]
    one.log_event("client", {**report, "failed": ["mean[a]", "k", "", "no"]})
    assert now()[0][0] == 0
    one.log_event("client", report)
    one.transition(key, "processing", "memory")
    assert now() == [(1, 0, 0, 0), (1, 0, 500, 1), (0, 0, 0, 0)]
    one.transition(key, "memory", "released")
    one.transition(key, "released", "processing")  # again: a worker was lost
    one.log_event("client", report)
    one.transition(key, "processing", "memory")
    assert now() == [(1, 0, 0, 0), (1, 0, 500, 1), (0, 0, 0, 0)]
    for other in ("of-somebody-else", ("x", 1), key[0]):
        one.transition(other, "processing", "memory")
    one.log_event("all", {"action": "remove-worker"})
    one.end(one.runs["r1"], "done")
    assert now() == [(1, 0, 0, 0), (1, 0, 0, 1), (0, 0, 0, 0)]
    assert one.content("")["run"]["steps"][1]["most"] == 500
    assert one._places == {}
    one.transition(key, "memory", "released")
    one.log_event("client", report)


def test_the_page_shows_the_time_left_as_the_terminal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(dashboard_page, "Estimate", lambda: Estimate(lambda: clock.now))
    about, _ = outlined()
    one = dashboard_page._DashboardPlugin(SimpleNamespace(tasks={}, workers={}))
    one.begin(
        {**about, "steps": [("load", 100)], "segments": [[None, 0]] * 100, "instances": {}, "boxes": about["boxes"][:1]}
    )
    assert one.content("")["run"]["left"] == "time left unknown: 1 step not begun"
    for i in range(50):  # two at a time
        clock.now = float(i // 2 + 1)
        rows = [[1, i // 2 * 10**9, (i // 2 + 1) * 10**9, 0, 0, 0]]
        one.log_event("c", {"run": "r1", "segment": i, "rows": rows, "dropped": [], "failed": None, "missing": []})
    expected = Estimate(lambda: clock.now)
    clock.now = 0.0
    expected.begin({"load": 100})
    for i in range(50):
        clock.now = float(i // 2 + 1)
        expected.finished("load", 1, 1.0)
    assert one.content("")["run"]["left"] == time_left_text(expected.left()) == "about 20 s to 30 s left"
    one.end(one.runs["r1"], "done")
    assert one.content("")["run"]["left"] == ""


def test_the_latest_runs_are_kept_and_the_latest_is_shown() -> None:
    one = dashboard_page._DashboardPlugin(SimpleNamespace(tasks={}, workers={}))
    about, _ = outlined()
    for number in range(9):
        one.begin({**about, "run": f"r{number}"})
        one.end(one.runs[f"r{number}"], "done")
    found = one.content("")
    assert [run["id"] for run in found["runs"]] == ["r8", "r7", "r6", "r5", "r4", "r3"]
    assert found["run"]["id"] == "r8"
    assert one.content("r4")["run"]["id"] == "r4"
    assert one.content("<none>")["run"]["id"] == "r8"


# ---------------------------------------------------------------------------------------------------------------------
# On a cluster of ours
# ---------------------------------------------------------------------------------------------------------------------


def test_before_the_first_run_there_is_none() -> None:
    with registry.create("dask", workers=1, dashboard=True) as backend:
        assert isinstance(backend, Dask)
        assert backend.pages["steps"] == backend.dashboard_url.replace("/status", "/pipeline")
        found = data(backend.pages["steps"])
        assert (found["runs"], found["run"], found["workers"]) == ([], None, 1)


def test_a_run_without_a_dashboard_has_no_page() -> None:
    with registry.create("dask", workers=1, dashboard=False) as backend:
        assert isinstance(backend, Dask)
        assert backend.pages == {}
        assert backend.run(mapped(operator.neg, 3)).results == {("total",): -3}


def test_the_page_shows_what_was_run(local: Dask) -> None:
    local.run(mapped(operator.neg, 60))
    run = data(local.pages["steps"])["run"]
    assert (run["state"], run["done"], run["n_tasks"], run["failures"]) == ("done", 61, 61, [])
    found = steps(local.pages["steps"])
    assert {name: (step["done"], step["n_tasks"]) for name, step in found.items()} == {"fit": (60, 60), "total": (1, 1)}
    assert found["fit"]["most"] > 0


def test_retries_and_dropped_items_have_masked_messages(local: Dask, tmp_path: Path) -> None:
    local._dashboard._masked = lambda text: text.replace("secret-token", "***")
    tasks: dict[Key, Any] = {("fit", 0): task(("fit", 0), fail_once, 0, str(tmp_path / "once"))}
    tasks |= {("odd", i): task(("odd", i), drop, i) for i in range(4)}
    odd = Policy("odd", over="odd", items=tuple(f"i={i}" for i in range(4)), merge=False)
    local.run(graph(tasks, *tasks, fit=Policy("fit", retries=1), odd=odd))
    url = local.pages["steps"]
    assert until(lambda: len(data(url)["run"]["failures"]) == 3)
    found = {(one["kind"], one["step"], one["item"]): one["message"] for one in data(url)["run"]["failures"]}
    assert found.keys() == {("retried", "fit", ""), ("dropped", "odd", "i=1"), ("dropped", "odd", "i=3")}
    assert found["retried", "fit", ""].startswith("ValueError: no luck with ***")
    assert {name: (step["retried"], step["dropped"]) for name, step in steps(url).items()} == {
        "fit": (1, 0), "odd": (0, 2)}  # fmt: skip


def test_the_spans_of_the_scheduler_are_the_steps(local: Dask) -> None:
    local.run(mapped(operator.neg, 60))
    assert local._client is not None
    extension = local._client.cluster.scheduler.extensions["spans"]
    whole = extension.spans_search_by_name["pipeline",][-1]
    named = {span.name[-1]: span for span in whole.children}
    assert named.keys() == {"fit", "total"}
    assert named["total"].states["forgotten"] + named["total"].states["memory"] >= 1
    assert named["fit"].duration > 0
    assert all(group.name.startswith("fit-") for group in named["fit"].groups)
    assert extension.spans_search_by_name["default",] == []


# ---------------------------------------------------------------------------------------------------------------------
# In a browser
# ---------------------------------------------------------------------------------------------------------------------


@contextmanager
def watching(folder: Path, url: str) -> Iterator[Any]:
    """The page in a browser; its script must not complain, and nothing but its own host may be asked."""
    with chromium(folder, width=1400, height=900) as context:
        browser = context.new_page()
        wrong: list[str] = []
        asked: list[str] = []
        browser.on("pageerror", lambda error: wrong.append(str(error)))
        browser.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        browser.on("request", lambda request: asked.append(request.url))
        browser.goto(url)
        yield browser
        assert wrong == []
        assert any(one.partition("?")[0] == f"{url}/data.json" for one in asked)
        assert all(one.startswith((url.removesuffix("/pipeline") + "/", "data:")) for one in asked)


def shown(browser: Any, step: str) -> tuple[str, str, str]:
    """The state of a step's box, its counts, and what runs."""
    box = browser.locator(f'.box[data-step="{step}"]')
    return (
        box.get_attribute("class").removeprefix("box "),
        box.locator(".count").text_content(),
        box.locator(".work").text_content(),
    )


def soon(browser: Any, found: Callable[[], Any], wanted: Any) -> None:
    """Wait until the page shows what it should; what it showed last is printed if it does not."""
    assert until(lambda: bool(browser.wait_for_timeout(1) or found() == wanted)), found()


def test_a_run_is_seen_as_it_goes_on_and_when_it_is_over(local: Dask, tmp_path: Path) -> None:
    event = tmp_path / "event"
    with watching(tmp_path, local.pages["steps"]) as browser, ThreadPoolExecutor(1) as thread:
        try:
            result = thread.submit(local.run, held(event))
            title = browser.locator("h1")
            soon(browser, title.text_content, "Running: 4 of 7 tasks done")
            soon(browser, lambda: shown(browser, "hold"), ("running", "0 / 2", "2 running"))
            assert shown(browser, "load") == ("done", "4 / 4", "")
            assert shown(browser, "total") == ("waiting", "0 / 1", "")
            assert browser.locator('.box[data-step="load"] .held').text_content() == "40.0 kB held"
            assert browser.locator("path.arrow").count() == 2
            browser.screenshot(path=tmp_path / "running.png")
        finally:
            event.touch()
        assert result.result().results["total", 0] == 8
        soon(browser, title.text_content, "Done: 7 of 7 tasks done")
        assert {shown(browser, step)[0] for step in ("load", "hold", "total")} == {"done"}
        assert "no run now" in browser.locator("#facts").text_content()
        row = browser.locator("#steps tbody tr", has_text="load").locator("td").all_text_contents()
        assert row[:3] == ["load", "4", "4"]


def test_a_long_graph_names_the_running_steps_and_scrolls_there(local: Dask, tmp_path: Path) -> None:
    event = tmp_path / "event"
    with watching(tmp_path, local.pages["steps"]) as browser, ThreadPoolExecutor(1) as thread:
        try:
            result = thread.submit(local.run, long(event))
            soon(browser, lambda: browser.locator(".box").count() and shown(browser, "s39")[2], "1 running")
            soon(browser, lambda: shown(browser, "s38"), ("low done", "1 / 1", ""))
            ends = browser.locator(".box").evaluate_all("all => all.map(one => one.getBoundingClientRect().bottom)")
            assert ends == sorted(set(ends))
            assert ends[-1] > 1_000
            soon(browser, browser.locator("#now").inner_text, "At work: s39")
            assert browser.locator(".box[data-step=s39] .work").is_visible()
            assert not browser.locator(".box[data-step=s39] .wrong").is_visible()
            assert browser.locator(".box[data-step=s39] title").text_content() == "s39 · 0 / 1 · 1 running"
            browser.locator("#now button").click()
            assert 0 < browser.locator(".box[data-step=s39]").bounding_box()["y"] < 900
        finally:
            event.touch()
        assert result.result().results["s39", 0] == 10_000
        soon(browser, browser.locator("#now").text_content, "")


def test_the_message_of_a_failed_task_is_shown_as_text(local: Dask, tmp_path: Path) -> None:
    with pytest.raises(TaskError):
        local.run(failing())
    with watching(tmp_path, local.pages["steps"]) as browser:
        browser.wait_for_selector("#failures td.kind.failed")
        message, step = (browser.locator(f"#failures td.{name}").first.text_content() for name in ("message", "step"))
        assert message.startswith(f"ValueError: {HOSTILE}")
        assert step == "fit[x=<b>2</b>]"
        assert browser.locator("h1").text_content().startswith("Failed: ")
        assert shown(browser, "fit")[0] == "failed"
        assert browser.locator(".box[data-step=fit] .wrong").text_content() == "1 failed"
        assert browser.evaluate("[window.hacked, document.querySelectorAll('img, b, main script').length]") == [None, 0]
        browser.screenshot(path=tmp_path / "failed.png")


def test_an_earlier_run_can_be_shown(local: Dask, tmp_path: Path) -> None:
    local.run(mapped(operator.neg, 30))
    local.run(mapped(operator.neg, 40))
    with watching(tmp_path, local.pages["steps"]) as browser:
        title = browser.locator("h1")
        soon(browser, title.text_content, "Done: 41 of 41 tasks done")
        browser.locator("#earlier button").first.click()
        soon(browser, title.text_content, "Done: 31 of 31 tasks done")
        assert shown(browser, "fit")[1] == "30 / 30"


def test_no_script_but_the_page_s_own_can_run(local: Dask, tmp_path: Path) -> None:
    with chromium(tmp_path) as context:
        browser = context.new_page()
        refused: list[str] = []
        browser.on("console", lambda message: refused.append(message.text))
        browser.goto(local.pages["steps"])
        browser.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "window.hacked = 1";
            document.body.append(script);
        }""")
        assert browser.evaluate("window.hacked") is None
        soon(browser, lambda: any("Content Security Policy" in text for text in refused), True)


# ---------------------------------------------------------------------------------------------------------------------
# On a running scheduler
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standing() -> Iterator[Standing]:
    """A scheduler with one worker, each in a process of its own."""
    with scheduler() as found, worker(found):
        yield found


def there(address: str) -> tuple[bool, int]:
    with Client(address, set_as_default=False) as client:
        found: tuple[bool, int] = client.run_on_scheduler(page_on)
    return found


def test_somebody_else_s_scheduler_shows_no_page_unless_allowed(standing: Standing) -> None:
    with Dask(address=standing.address) as backend:
        assert "steps" not in backend.pages
        backend.run(mapped(operator.neg, 10))
        assert there(standing.address) == (False, 0)


def test_an_allowed_page_exists_only_while_it_is_used(standing: Standing) -> None:
    allowed = {"page": True}
    with Dask(address=standing.address, cluster=allowed) as first:
        with Dask(address=standing.address, cluster=allowed) as second:
            second.run(mapped(operator.neg, 20))
            assert {name: step["done"] for name, step in steps(first.pages["steps"]).items()} == {"fit": 20, "total": 1}
            assert there(standing.address) == (True, 1)
        first.run(mapped(operator.neg, 10))
        assert steps(first.pages["steps"])["fit"]["done"] == 10
        assert there(standing.address) == (True, 1)
    assert there(standing.address) == (False, 0)


SCRIPT = """
import pathlib, sys
import dask_tasks
from pipeline.backends.dask.backend import Dask
if __name__ == "__main__":
    with Dask(address=sys.argv[1], cluster={"page": True}) as backend:
        print(backend.pages["steps"], flush=True)
        backend.run(dask_tasks.held(pathlib.Path(sys.argv[2])))
"""


def test_a_client_that_is_killed_takes_its_page_with_it(standing: Standing, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    with process(str(tmp_path / "script.py"), standing.address, str(tmp_path / "event")) as child:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        assert until(lambda: steps(url).get("load", {}).get("done") == 4)
        assert there(standing.address) == (True, 1)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        (tmp_path / "event").touch()
        assert until(lambda: there(standing.address) == (False, 0))
