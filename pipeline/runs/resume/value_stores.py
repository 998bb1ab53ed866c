"""Where the values of one run are kept, and running with them: entries that can't be read are computed again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow.compute as pc

from pipeline.backends.base import Outcome
from pipeline.config.model import Cache, Config
from pipeline.errors import EntryDamaged
from pipeline.graph.graph import Graph
from pipeline.graph.late_pandas import numbers_of
from pipeline.runs.kept_values import cache_store
from pipeline.runs.resume.answers import NEEDED, Answer
from pipeline.runs.resume.plan import ResumePlan
from pipeline.runs.resume.planner import plan_run
from pipeline.runs.resume.task_plan import Stores
from pipeline.runs.resume.unfinished import ITEMS, earlier_logs, earlier_parts
from pipeline.runs.resume.wishes import Wishes
from pipeline.trace.trace import Trace
from pipeline.units import count_text, duration_text, names_text
from pipeline.worker.item_logs import ItemLog

__all__ = [
    "closing_notes",
    "dry_plan",
    "evict",
    "has_log",
    "in_use",
    "stores_of",
    "with_cache",
    "with_whole_entries",
]

_WORTH_SAYING = 1.0  # seconds of computing unchanged steps, from which on a cache is recommended


class _Planner(Protocol):
    def __call__(self, stores: Stores, /, *, settled: dict[str, Answer] | None) -> ResumePlan: ...


def with_cache(config: Config, folder: str | os.PathLike[str] | None) -> Config:
    """Return the Config with this folder as its cache, with the limits of the file; None: the file's own."""
    if folder is None:
        return config
    path = os.path.abspath(os.path.expanduser(folder))
    limits = config.cache if config.cache is not None else Cache(path)
    return replace(config, cache=replace(limits, folder=path))


def stores_of(config: Config, runs: str | os.PathLike[str], *, prepare: bool = False) -> Stores:
    """Return where the values of a pipeline are kept.

    Parameters
    ----------
    prepare : whether the folders are made

    Raises
    ------
    ConfigError : a folder can't be made, or is not the user's own
    """
    store = cache_store(config.cache, runs)
    used = config.cache is not None or any(step.checkpoint for step in config.steps.values())
    if used and prepare:
        store.prepare()
    elif used:
        store.check()
    return Stores(store if config.cache is not None else None, store if used else None)


def dry_plan(
    config: Config,
    graph: Graph,
    *,
    out: str | os.PathLike[str],
    runs: str | os.PathLike[str],
    wishes: Wishes,
    cache: str | os.PathLike[str] | None = None,
) -> ResumePlan:
    """Return what a run with these options would do; nothing is written."""
    config = with_cache(config, cache)
    stores = stores_of(config, runs)
    if has_log(config):
        folder = Path(runs, config.name).absolute()
        log = ItemLog(str(folder / ITEMS))
        stores = replace(stores, log=log, earlier=earlier_logs(folder), parts=earlier_parts(folder))
    return plan_run(config, graph, Path(os.path.realpath(out)), wishes, stores)


def has_log(config: Config) -> bool:
    """Return whether a run logs in its run folder what it has finished: parts of outputs, and items without a cache.

    One of a file with secrets does not: a value may contain one, and the run folder is passed on to others.
    """
    items = config.cache is None and any(
        step.over is not None or (step.kind == "op" and type(step.parameters).own_items)
        for step in config.steps.values()
        if step.pure and not step.checkpoint
    )
    return not config.secrets and (items or bool(config.outputs))


@contextlib.contextmanager
def in_use(stores: Stores) -> Iterator[None]:
    """While the block runs, no run evicts what is used from now on."""
    with stores.checkpoints.in_use() if stores.checkpoints is not None else contextlib.nullcontext():
        yield


def evict(stores: Stores, config: Config, *, since: float) -> None:
    """Remove what exceeds the limits of the file's cache.

    Parameters
    ----------
    since : seconds since 1970, when the run began
    """
    cache = config.cache
    if stores.cache is not None and cache is not None and (cache.bytes, cache.entries, cache.age) != (None,) * 3:
        stores.cache.evict(max_bytes=cache.bytes, max_entries=cache.entries, max_age=cache.age, since=since)


def with_whole_entries(
    plan: _Planner, stores: Stores, compute: Callable[[ResumePlan], Outcome]
) -> tuple[ResumePlan, Outcome]:
    """Plan a run and compute what is to be run; where an entry can't be read, plan again without it.

    The first time only the entry that was found damaged is left out. The second time all that would be loaded are
    checked before, and no items and parts of earlier runs are taken; the third time nothing is loaded.
    """
    settled: dict[str, Answer] | None = None
    for attempt in range(4):
        now = stores
        if attempt == 2:
            now = replace(stores, earlier=(), parts=None)
        elif attempt == 3:
            now = Stores(log=stores.log)
        planned = plan(now, settled=settled)
        if attempt == 2 and _remove_damaged(planned):
            planned = plan(now, settled=settled)
        settled = planned.settled
        try:
            outcome = compute(planned)
        except EntryDamaged:
            if attempt == 3:
                raise
            continue
        if attempt < 3 and any(failure.kind == "entry" for failure in outcome.failures):
            continue
        return planned, outcome
    raise AssertionError("the last attempt returns or raises")


def _remove_damaged(planned: ResumePlan) -> bool:
    """Remove the entries that can't be read among those that would be loaded; return whether there were any."""
    found = False
    for store, key in planned.values.loaded_entries():
        if store.why_unusable(key):
            store.remove(key)
            found = True
    return found


def closing_notes(
    config: Config, plan: ResumePlan, trace: Trace, changed: Collection[str], affected: Collection[str]
) -> Iterator[str]:
    """Yield what is to be known about later runs: inputs that changed meanwhile, results that were not kept."""
    if changed:
        outputs = [output.name for output in config.outputs if not set(output.input.instances).isdisjoint(affected)]
        reads = names_text(list(changed), 3)
        verb = "have" if len(changed) > 1 else "has"
        what = f": {names_text(outputs, 3)}" if outputs else ""
        yield f"warning: {reads} {verb} changed during the run: the next run makes again what depends on it{what}"
    needed = [name for name, one in plan.steps.items() if one.state == "run" and one.reasons == (NEEDED,)]
    seconds = _seconds(trace)
    took = sum(seconds.get(name, 0.0) for name in needed)
    if config.cache is None and took >= _WORTH_SAYING:
        steps = list(dict.fromkeys(name.partition("[")[0] for name in needed))
        dearest = max(steps, key=lambda step: sum(s for n, s in seconds.items() if n.partition("[")[0] == step))
        yield (
            f"{count_text(len(steps), 'unchanged step')} ran again for {duration_text(took)} of work, since results of "
            f"steps were not kept: --cache DIR keeps those of all steps, checkpoint: true on {dearest!r} its own"
        )


def _seconds(trace: Trace) -> dict[str, float]:
    """Return the seconds in the tasks of each step instance."""
    if not trace.tasks.num_rows:
        return {}
    steps = trace.tasks["step"].combine_chunks().dictionary_encode()
    nanoseconds = np.zeros(len(steps.dictionary), np.int64)
    took = numbers_of(pc.subtract(trace.tasks["stop"], trace.tasks["start"]))
    np.add.at(nanoseconds, numbers_of(steps.indices), took)
    return dict(zip(steps.dictionary.to_pylist(), (nanoseconds / 1e9).tolist(), strict=True))
