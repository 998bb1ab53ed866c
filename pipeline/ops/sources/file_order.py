"""The order in which files are joined: that of their labels along a dim, without labels that of the files."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.errors import DataError
from pipeline.graph.calendars import calendar_of, encode_times, join_times
from pipeline.ops.sources.stored_arrays import StoredArray
from pipeline.ops.whole_numbers import WholeNumberError, concatenated
from pipeline.units import count_text

__all__ = ["BY_ITSELF", "KINDS", "Overlap", "Run", "ends_text", "order_of", "require_one_calendar"]

Overlap = Literal["first", "last"]
Values = np.ndarray[Any, Any]

_NUMBERS = {"b": "truth values", "i": "whole numbers", "u": "whole numbers", "f": "floats", "c": "complex numbers"}
KINDS = {**_NUMBERS, "M": "times", "m": "durations", **dict.fromkeys("USTO", "text")}
BY_ITSELF = (
    "Read each file by itself, with a matrix over the files, make them equal, then join them with op concatenate"
)


@dataclass(frozen=True)
class Run:
    """Adjacent positions ``start`` to ``stop`` of file number ``file``."""

    file: int
    start: int
    stop: int


def order_of(found: Sequence[StoredArray], dim: str, overlap: Overlap | None) -> tuple[list[Run], str]:
    """Return what follows what along the joined dim, and a sentence about it.

    Raises
    ------
    DataError : two files have a label, labels of one increase and those of another decrease, or no dtype holds all
    """
    axis = found[0].dims.index(dim)
    sizes = [x.shape[axis] for x in found]
    labels = [x.coords.get(dim) for x in found]
    head = f"{count_text(len(found), 'file')} joined along {dim}"
    known = [own.values for own in labels if own is not None]
    if len(known) < len(found):
        if known:
            without, having = (next(i for i, x in enumerate(labels) if (x is None) is none) for none in (True, False))
            raise DataError(f"{found[without].path}: has no labels along {dim!r}, {found[having].path} has")
        return [Run(i, 0, n) for i, n in enumerate(sizes)], f"{head}, in the order of path: {_names(found)}"
    require_one_calendar(known, dim, found)
    places = np.repeat(np.arange(len(found)), sizes)
    positions = np.concatenate([np.arange(n) for n in sizes]) if sizes else np.arange(0)
    try:
        keys = _numbers(known)
    except WholeNumberError:
        kinds = {str(values.dtype): x.path for values, x in zip(known, found, strict=True)}
        several = " and ".join(f"{kind} ({path})" for kind, path in kinds.items())
        raise DataError(
            f"labels along {dim!r} are {several}, and no whole number type holds all. {BY_ITSELF}"
        ) from None
    ranks = np.unique(keys, return_inverse=True)[1]
    kept = _without_overlap(ranks, places, known, overlap, found, dim)
    direction = None if keys.dtype.kind not in "biufM" or _some_missing(keys) else _direction(ranks, sizes, found, dim)
    if direction is None:
        order = np.flatnonzero(kept)
        text = f"{head}, in the order of path: {_names(found)}"
    else:
        order = np.lexsort((places, direction * ranks))
        order = order[kept[order]]
        by = "increasing" if direction > 0 else "decreasing"
        at = [known[places[i]][positions[i]] for i in (order[0], order[-1])] if order.size else []
        text = f"{head} by {by} labels: {ends_text(np.array(at, dtype=object))}"
    return _runs(places[order], positions[order]), text


def _names(found: Sequence[StoredArray]) -> str:
    names = [x.path.rstrip("/").rpartition("/")[2] for x in found]
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, …, {names[-1]}"


def _numbers(several: Sequence[Values]) -> Values:
    """Return labels one after the other, those in a calendar of their own as whole numbers."""
    if any(values.dtype.kind == "M" or calendar_of(values) for values in several):
        times = join_times(several)
        if times.dtype != object:
            return times
        numbers, attrs = encode_times(times)
        return numbers if attrs else times
    found = concatenated(several)
    return found.astype(str) if found.dtype == object else found


def _some_missing(keys: Values) -> bool:
    missing = np.isnat(keys) if keys.dtype.kind == "M" else np.isnan(keys) if keys.dtype.kind == "f" else False
    return bool(np.any(missing))


def _direction(ranks: Values, sizes: Sequence[int], found: Sequence[StoredArray], dim: str) -> int | None:
    """Return 1 for labels that increase in each file, -1 for decreasing ones, None if there is no order in a file.

    Raises
    ------
    DataError : labels of one file increase, those of another decrease
    """
    signs: dict[int, int] = {}
    for number, own in enumerate(np.split(ranks, np.cumsum(sizes)[:-1])):
        steps = np.diff(own)
        if not steps.size or not steps.any():
            continue
        if (steps < 0).any() and (steps > 0).any():
            return None
        signs.setdefault(1 if steps.any() and (steps >= 0).all() else -1, number)
    if len(signs) == 2:
        up, down = (found[signs[sign]].path for sign in (1, -1))
        raise DataError(f"{up}: labels along {dim!r} increase, in {down} they decrease. {BY_ITSELF}")
    return next(iter(signs), 1)


def _without_overlap(
    ranks: Values,
    places: Values,
    known: Sequence[Values],
    overlap: Overlap | None,
    found: Sequence[StoredArray],
    dim: str,
) -> Values:
    """Return which positions count, where several files have a label.

    Raises
    ------
    DataError : two files have one, and the step doesn't say whose values count
    """
    n = int(ranks.max(initial=-1)) + 1
    owner = np.full(n, len(found) if overlap != "last" else -1)
    (np.maximum if overlap == "last" else np.minimum).at(owner, ranks, places)
    kept: Values = owner[ranks] == places
    if overlap is None and not kept.all():
        at, count = int(np.flatnonzero(~kept)[0]), int((~kept).sum())
        label = known[places[at]][at - int(np.flatnonzero(places == places[at])[0])]
        both = f"{found[places[at]].path} and {found[owner[ranks[at]]].path}"
        raise DataError(
            f"{both} both have {dim} {ends_text(np.array([label]))}"
            f"{f', and {count - 1:,} more labels are in several files' if count > 1 else ''}; say whose values count: "
            f"overlap: first, or overlap: last, in the order of path"
        )
    return kept


def _runs(places: Values, positions: Values) -> list[Run]:
    """Return runs of adjacent positions in the same file."""
    if not places.size:
        return []
    cuts = np.flatnonzero((np.diff(places) != 0) | (np.diff(positions) != 1)) + 1
    bounds = np.concatenate([[0], cuts, [places.size]])
    return [Run(int(places[a]), int(positions[a]), int(positions[b - 1]) + 1) for a, b in itertools.pairwise(bounds)]


# ---------------------------------------------------------------------------------------------------------------------
# Labels
# ---------------------------------------------------------------------------------------------------------------------


def require_one_calendar(several: Sequence[Values], name: str, found: Sequence[StoredArray]) -> None:
    calendars = [calendar_of(values) or ("standard" if values.dtype.kind == "M" else "") for values in several]
    kinds = [KINDS.get(values.dtype.kind, "") if not calendar else "times" for values, calendar in
             zip(several, calendars, strict=True)]  # fmt: skip
    for number in range(1, len(several)):
        if calendars[number] != calendars[0] and several[number].size and several[0].size:
            got, first = (calendars[i] or kinds[i] for i in (number, 0))
            raise DataError(
                f"{found[number].path}: {name!r} has the calendar {got}, in {found[0].path} {first}; times of two "
                f"calendars have no common order. Read each file by itself, with a matrix over the files"
            )
        if kinds[number] != kinds[0]:
            raise DataError(
                f"{found[number].path}: {name!r} holds {kinds[number]}, in {found[0].path} {kinds[0]}. {BY_ITSELF}"
            )


def ends_text(values: Values) -> str:
    flat = values.reshape(-1)
    texts = [str(flat[i]).removesuffix("T00:00:00.000000000") for i in (0, -1)] if flat.size else ["nothing"]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} to {texts[-1]}"
