"""The values that runs have kept in a cache, by step; which of them are removed."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config.model import Cache
from pipeline.errors import ConfigError
from pipeline.worker.cache_entries import Entry, Evicted, Store

__all__ = ["CacheContents", "StepValues", "cache_store", "contents", "remove"]


def cache_store(cache: Cache | None, runs: str | os.PathLike[str]) -> Store:
    """Return the store of a file's ``cache``, or, where it has none, the one beside its runs; it need not exist."""
    return Store(cache.folder if cache is not None else str(Path(runs, ".cache").absolute()))


@dataclass(frozen=True)
class StepValues:
    """The values of one step instance.

    Parameters
    ----------
    entries : number of values
    bytes : of their files
    seconds : that computing them took
    created, used : seconds since 1970, when the newest was kept, and when one was last used
    """

    pipeline: str
    step: str
    entries: int
    bytes: int
    seconds: float
    created: float
    used: float


@dataclass(frozen=True)
class CacheContents:
    """What is in a cache.

    Parameters
    ----------
    steps : by pipeline and step
    entries, bytes : of all steps
    seconds : that computing all of it took
    damaged, damaged_bytes : number of files that can't be used, and their bytes; these are not among the steps
    free : bytes that are free on the disk; None: unknown
    """

    folder: str
    steps: tuple[StepValues, ...]
    entries: int
    bytes: int
    seconds: float
    damaged: int
    damaged_bytes: int
    free: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for JSON."""
        return asdict(self)


def contents(store: Store) -> CacheContents:
    """Return what is in a cache; nothing where there is no such folder.

    Raises
    ------
    ConfigError : the folder belongs to another user, or may be written by others
    """
    _require_own(store)
    steps: dict[tuple[str, str], list[Entry]] = {}
    damaged: list[Entry] = []
    for entry in store.entries():
        if entry.kind:
            steps.setdefault((entry.pipeline, entry.step), []).append(entry)
        else:
            damaged.append(entry)
    found = tuple(_step(*names, entries) for names, entries in sorted(steps.items()))
    return CacheContents(
        store.folder,
        found,
        sum(step.entries for step in found),
        sum(step.bytes for step in found),
        sum(step.seconds for step in found),
        len(damaged),
        sum(entry.nbytes for entry in damaged),
        _free(store.folder),
    )


def remove(
    store: Store,
    *,
    steps: Collection[str] = (),
    pipeline: str | None = None,
    unused_for: float | None = None,
    damaged: bool = False,
) -> Evicted:
    """Remove the entries that fulfil all conditions; return how many, and their bytes. None: all entries.

    Parameters
    ----------
    steps : names of steps (then all their instances), or of instances
    pipeline : name of a pipeline
    unused_for : seconds since their last use, at least
    damaged : remove what can't be used instead

    Raises
    ------
    ConfigError : the folder is not the user's own; or nothing has been kept of one of the steps
    """
    _require_own(store)
    entries = list(store.entries())
    known = {name for entry in entries for name in (entry.step, _name(entry.step))}
    for name in sorted(set(steps) - known):
        among = ", ".join(sorted({_name(entry.step) for entry in entries if entry.step})) or "nothing at all"
        raise ConfigError(f"--step {name}: nothing is kept of such a step in {store.folder}; kept is: {among}")
    before = None if unused_for is None else time.time() - unused_for

    def chosen() -> Iterator[Entry]:
        for entry in entries:
            if damaged != (not entry.kind) and (damaged or steps or pipeline is not None):
                continue
            if steps and not {entry.step, _name(entry.step)} & set(steps):
                continue
            if pipeline is not None and entry.pipeline != pipeline:
                continue
            if before is None or entry.used < before:
                yield entry

    removed = [entry for entry in chosen() if store.remove(entry.key)]
    return Evicted(len([entry for entry in removed if not entry.target]), sum(entry.nbytes for entry in removed))


def _require_own(store: Store) -> None:
    if os.path.lexists(store.folder):
        store.check()


def _name(instance: str) -> str:
    """Return the name of the step of an instance."""
    return instance.partition("[")[0]


def _step(pipeline: str, step: str, entries: Collection[Entry]) -> StepValues:
    values = [entry for entry in entries if not entry.target]
    return StepValues(
        pipeline,
        step,
        len(values),
        sum(entry.nbytes for entry in entries),
        sum(entry.seconds for entry in values),
        max(entry.created for entry in entries),
        max(entry.used for entry in entries),
    )


def _free(folder: str) -> int | None:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
