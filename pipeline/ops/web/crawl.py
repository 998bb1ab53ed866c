"""``crawl``: the rounds of a crawl as tasks of the one Graph.

Each round has ``split`` tasks that request pages, each those whose URL has its hash, then one that adds what they found
and one that chooses what is next. The number of tasks is known before the run, so the same Graph runs on every back
end; rounds that find nothing new cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.config.model import Step
from pipeline.errors import OpError
from pipeline.graph.graph import Key
from pipeline.graph.nodes import GraphNode, listed, ref, task
from pipeline.ops.collections import Frame
from pipeline.ops.web import frontier
from pipeline.ops.web.fetching import Crawl, fetch_pages, read_rules
from pipeline.ops.web.libraries import require
from pipeline.ops.web.page_records import PageStore
from pipeline.ops.web.urls import Unusable, normal, site_of

__all__ = ["crawl"]

_TIMEOUT = 10.0  # seconds of one request


def crawl(
    *,
    url: str,
    depth: int,
    pages: int,
    bytes: int,  # noqa: A002 - the parameter's name in files
    page_bytes: int,
    rate: float,
    time: float,
    split: int,
    contact: str,
    state: str | None,
    max_age: float,
    name: str,
    seed: int,
    step: Step,
) -> Frame:
    """Return the links of a web site as a frame of one partition; nothing is requested while building.

    Parameters
    ----------
    page_bytes, bytes : of a page, and of all
    time, max_age : seconds
    step : gives ``timeout`` and ``retries``

    Raises
    ------
    OpError : a library is missing; the URL can't be requested, or there are several; the folder holds other files
    """
    require("crawl", "web", "httpx", "protego", "selectolax")
    start = _start(url)
    if state is not None:
        PageStore.require_usable(state)
    work = Crawl(
        start=start,
        site=site_of(start),
        depth=depth,
        pages=pages,
        bytes=bytes,
        page_bytes=page_bytes,
        rate=rate,
        time=time,
        split=split,
        contact=contact,
        timeout=step.timeout or _TIMEOUT,
        retries=step.retries,
        seed=seed,
        state=state,
        max_age=max_age,
    )
    rules: Key = (f"{name}/robots",)
    tasks: dict[Key, GraphNode] = {rules: task(rules, read_rules, work)}

    def add(key: Key, function: Callable[..., Any], *args: Any) -> Key:
        tasks[key] = task(key, function, work, *args)
        return key

    found = add((f"{name}/found", 0), frontier.begin, ref(rules))
    for i in range(work.depth + 1 + frontier.EXTRA_ROUNDS):
        chosen = add((f"{name}/next", i), frontier.next_buckets, ref(found))
        fetched = [add((f"{name}/pages", i, k), fetch_pages, ref(rules), ref(chosen), k) for k in range(work.split)]
        found = add((f"{name}/found", i + 1), frontier.advance, ref(found), listed(map(ref, fetched)))
    rows = add((f"{name}/links", 0), frontier.table, ref(found))
    return Frame(tasks, (rows,), frontier.COLUMNS)


def _start(url: str) -> str:
    """Return the start page in normal form.

    Raises
    ------
    OpError : with the cure
    """
    if len(url.split()) > 1 or ("," in url and url.count("://") > 1):
        raise OpError("url", f"got {url!r}; a crawl is of one site: write a step for each")
    try:
        start = normal(url)
    except Unusable as error:
        cure = "write http:// or https://, a host and a path"
        if "password" in error.reason:
            cure = "pages behind a password can't be crawled"
        raise OpError("url", f"{error.reason}; {cure}") from error
    return start
