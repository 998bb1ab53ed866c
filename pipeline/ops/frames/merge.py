"""merge: joins by equal keys, further conditions, and the cross product.

Relational meaning: rows match where every key is equal and the condition is true, and a missing key matches nothing,
not even another missing one. Keys are compared in one common type a pair, which holds the values of both exactly; both
sides' own columns keep their types. The rows are in the order of the left's rows, then of the right's; rows of the
right alone come last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa

from pipeline.config.expressions.expression import Expression
from pipeline.errors import OpError
from pipeline.graph.column_types import field_of
from pipeline.graph.nodes import listed, ref
from pipeline.ops.collections import Frame
from pipeline.ops.frames.columns import bound_names, condition
from pipeline.ops.frames.join_tasks import Join, Renamed, join_rows
from pipeline.ops.frames.pairing import SMALL, Side, compared_type, paired, required_once
from pipeline.ops.frames.partitions import Bound, Partitions, UnknownColumn, names_of
from pipeline.ops.frames.select import select

__all__ = ["merge", "named_apart"]

How = Literal["inner", "left", "right", "outer", "cross", "semi", "anti"]
Unique = Literal["one_to_one", "one_to_many", "many_to_one", "many_to_many"]
_LEFT_GOES_WHOLE = ("inner", "right")  # the other ones would owe its unmatched rows in every task
_RIGHT_GOES_WHOLE = ("inner", "left", "semi", "anti", "cross")


def merge(
    left: Frame,
    *rights: Any,
    how: How = "inner",
    on: str | Sequence[str] | None = None,
    left_on: str | Sequence[str] | None = None,
    right_on: str | Sequence[str] | None = None,
    where: Expression | None = None,
    suffixes: Sequence[str] | None = None,
    validate: Unique | None = None,
    needed: frozenset[str] | None = None,
    bound: Bound = None,
) -> Frame:
    """The pairs of rows whose keys are equal; with ``left``, ``right``, ``outer`` also the rows that match none.

    ``semi`` gives the left rows that match some row of the right, each once, ``anti`` those that match none, a missing
    key among them; both have the left's columns and types. ``cross`` gives all pairs.

    Columns are those of the left, then those of the right without the keys named alike; other columns named alike get
    the suffixes. Columns of a side that may be without a match allow missing values. With several right frames, each is
    joined to what those before it gave.

    Parameters
    ----------
    rights : frames; of gathered copies, as a list of ``(labels, frame)``, the labels are left out
    on : the keys, if all sides call them the same; else ``left_on`` and ``right_on``, pair by pair
    where : a condition over the columns of the result, part of the match
    suffixes : one a frame, for columns of several frames that are no shared keys; default: ``_x`` and ``_y``, of more
        than two frames ``_1``, ``_2``, …
    validate : one_to_one, one_to_many, many_to_one: a key that repeats on a side that says `one` fails the run
    needed : the columns that later steps use, the only ones that the result has; None: all
    bound : run-time values of the condition, under ``where``

    Raises
    ------
    OpError : an unknown column, keys of types that never compare equal, columns that would be named alike
    DataError : in the run, if ``validate`` does not hold: naming the smallest key that repeats
    """
    frames = [left, *(one for given in rights for one in _frames(given))]
    if len(frames) > 2:
        for key, given in (("where", where), ("left_on", left_on), ("right_on", right_on), ("validate", validate)):
            if given is not None:
                raise OpError(key, f"joins two frames, and there are {len(frames)}; merge them one after the other")
    keys = _keys(frames, how, on, left_on, right_on, validate)
    names = named_apart([frame.columns for frame in frames], keys, suffixes)
    names = _used(names, how, needed, where, keys[0] if len(frames) > 2 else ())
    frames = [
        _narrowed(frame, {*some_keys, *(name for name, _ in some)})
        for frame, some_keys, some in zip(frames, keys, names, strict=True)
    ]
    joined = frames[0]
    for i, right in enumerate(frames[1:], start=1):
        taken_of = names[0] if i == 1 else tuple((name, name) for name in joined.columns)
        join = _join(how, joined.schema, right.schema, keys[0], keys[i], taken_of, names[i], where)
        joined = _joined(joined, right, join, validate, bound)
    return joined


def _frames(given: Any) -> list[Frame]:
    return [one for _, one in given] if isinstance(given, list) else [given]


def _keys(frames: Sequence[Frame], how: str, on: Any, left_on: Any, right_on: Any, validate: Any) -> list[list[str]]:
    """The key columns of each frame."""
    if how == "cross":
        for key, given in (("on", on), ("left_on", left_on), ("right_on", right_on), ("validate", validate)):
            if given is not None:
                raise OpError(key, "how: cross pairs all rows, without keys")
        return [[] for _ in frames]
    if on is not None:
        if left_on is not None or right_on is not None:
            raise OpError("on", "stands beside left_on or right_on; give `on`, or the other two")
        return [names_of("on", on, frame.columns, of="the right side" if i else "") for i, frame in enumerate(frames)]
    if left_on is None or right_on is None:
        raise OpError("on", "is missing; give `on`, or `left_on` and `right_on`")
    lefts = [left_on] if isinstance(left_on, str) else list(left_on)
    rights = [right_on] if isinstance(right_on, str) else list(right_on)
    names_of("left_on", lefts, frames[0].columns)
    names_of("right_on", rights, frames[1].columns, of="the right side")
    if len(lefts) != len(rights):
        raise OpError("right_on", f"got {len(rights)} columns for the {len(lefts)} of left_on")
    return [lefts, rights]


def named_apart(
    columns: Sequence[Sequence[str]], keys: Sequence[Sequence[str]], suffixes: Sequence[str] | None
) -> list[Renamed]:
    """The columns of each frame with their names in the result; shared keys are columns of the first one.

    Raises
    ------
    OpError : two columns would have one name
    """
    given = list(suffixes or (("_x", "_y") if len(columns) == 2 else [f"_{i + 1}" for i in range(len(columns))]))
    if len(given) != len(columns):
        raise OpError("suffixes", f"got {given}; give one for each of the {len(columns)} frames")
    shared = {name for name, *others in zip(*keys, strict=True) if all(other == name for other in others)}
    own = [[name for name in some if not (i and name in shared)] for i, some in enumerate(columns)]
    counts: dict[str, int] = {}
    for some in own:
        for name in some:
            counts[name] = counts.get(name, 0) + 1
    renamed = [
        tuple((name, name + suffix if counts[name] > 1 else name) for name in some)
        for some, suffix in zip(own, given, strict=True)
    ]
    names = [new for some in renamed for _, new in some]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OpError("suffixes", f"{given} would give two columns the name '{twice[0]}'; choose others")
    return renamed


def _used(
    names: Sequence[Renamed], how: str, needed: frozenset[str] | None, where: Expression | None, keys: Sequence[str]
) -> list[Renamed]:
    """The columns of each frame that the result needs, or the condition; of the first two one, or no row would count.

    Parameters
    ----------
    keys : which joins after the first one need
    """
    tested = where.names if where is not None else frozenset()
    if how in ("semi", "anti"):  # the left's columns, under their own names; the condition has the others
        own = [(name, new) for name, new in names[0] if needed is None or name in {*needed, *keys} or new in tested]
        found = [tuple(own), *(tuple((name, new) for name, new in some if new in tested) for some in names[1:])]
        return found if own else [names[0][:1], *found[1:]]
    if needed is None:
        return list(names)
    used = needed.union(tested, keys)
    found = [tuple((name, new) for name, new in some if new in used) for some in names]
    return found if any(found[:2]) else [names[0][:1], *found[1:]]


def _narrowed(frame: Frame, used: set[str]) -> Frame:
    """A frame without the columns that the join has no use for."""
    columns = [name for name in frame.columns if name in used]
    return frame if len(columns) in (0, len(frame.columns)) else select(frame, columns=columns)


def _join(
    how: str,
    left: pa.Schema,
    right: pa.Schema,
    lefts: Sequence[str],
    rights: Sequence[str],
    left_names: Renamed,
    right_names: Renamed,
    where: Expression | None,
) -> Join:
    pairs = list(zip(lefts, rights, strict=True))
    types = [compared_type(field_of(left, a), field_of(right, b), "on" if a == b else "right_on") for a, b in pairs]
    shared = {a: (b, kind) for (a, b), kind in zip(pairs, types, strict=True) if a == b}
    fields = []
    for name, new in left_names:
        field = field_of(left, name)
        if name in shared and how in ("right", "outer"):
            other, kind = field_of(right, shared[name][0]), shared[name][1]
            of_both = field.type if field.type == other.type else kind
            field = other if how == "right" else pa.field(name, of_both, field.nullable or other.nullable)
        elif how in ("inner", "semi") and name in lefts:
            field = field.with_nullable(False)
        elif how in ("right", "outer"):
            field = field.with_nullable(True)
        fields.append(field.with_name(new))
    others = []
    for name, new in right_names:
        field = field_of(right, name)
        nullable = how in ("left", "outer") or (field.nullable and not (how == "inner" and name in rights))
        others.append(field.with_name(new).with_nullable(nullable))
    plain = [
        field_of(side, n).with_name(new)
        for side, names in ((left, left_names), (right, right_names))
        for n, new in names
    ]
    both = pa.schema(plain)
    if where is not None:
        try:
            condition("where", where, both)
        except UnknownColumn as error:
            field, problem, hint = error.args
            raise OpError(field, f"{problem} of the joined rows{hint}") from error
    alone = how in ("semi", "anti")
    if alone:
        fields = [f.with_name(name) for f, (name, _) in zip(fields, left_names, strict=True)]
    return Join(
        how,
        left,
        right,
        tuple(lefts),
        tuple(rights),
        tuple(types),
        left_names,
        right_names,
        tuple((a, b) for a, (b, _) in shared.items()),
        pa.schema(fields if alone else [*fields, *others]),
        both,
        where,
    )


def _joined(left: Frame, right: Frame, join: Join, validate: Unique | None, bound: Bound) -> Frame:
    partitions = Partitions.of(left, right, parameters=("merge", _named(join), validate, bound_names(bound)))
    slots = partitions.bind(bound, "where")
    sides = (
        Side(join.left_on, left.bound, join.how in _LEFT_GOES_WHOLE),
        Side(join.right_on, right.bound, join.how in _RIGHT_GOES_WHOLE),
    )
    checks = [
        required_once(partitions, s, name, side.on, join.types)
        for s, (name, side, one) in enumerate(zip(("left", "right"), sides, _ONE[validate], strict=True))
        if one
    ]
    joined = [
        partitions.add("join", (i,), join_rows, one, other, join, slots, listed(map(ref, checks)))
        for i, (one, other) in enumerate(paired(partitions, sides, join.types))
    ]
    pairs = left.bound * right.most_rows + right.bound * left.most_rows  # as if all rows met
    at_most = pairs if join.how in ("inner", "cross") and pairs <= SMALL else math.nan  # a large one tells nothing
    return partitions.frame(joined, join.schema, some_rows=join.how in ("semi", "anti"), at_most=at_most)


_ONE: dict[Unique | None, tuple[bool, bool]] = {
    None: (False, False),
    "many_to_many": (False, False),
    "one_to_one": (True, True),
    "one_to_many": (True, False),
    "many_to_one": (False, True),
}


def _named(join: Join) -> list[Any]:
    """What distinguishes a join from others, as something that tokenises."""
    return [join.how, join.left_on, join.right_on, join.left_names, join.right_names, join.where, str(join.schema)]
