"""Where the boxes of the step graph stand: in layers from top to bottom, no wider than a page.

Steps come below all they need. A layer holds as many boxes as fit side by side; what does not fit goes one further
down, so that a hundred steps become a longer picture and not a smaller one. Within the layers the order is that of the
barycentres of the neighbours, swept up and down (Sugiyama's method); lines that cross layers get a place in each of
them. Then every box moves as close to the mean of its neighbours as the order allows, which is a least-squares problem
that pooling solves exactly, a layer at a time.

References
----------
Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures", 1981.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.report.figures import cut

__all__ = ["Box", "Drawing", "laid_out"]

WIDTH = 1_120.0
_HEIGHT, _GAP, _BETWEEN = 40.0, 18.0, 34.0  # of a box, beside it, below it; pixels
_LINE = 12.0  # room for a line that crosses a layer
_SWEEPS = 12
_LETTER = 7.4  # width of a letter
_NARROWEST, _LETTERS = 112.0, 26


@dataclass(frozen=True)
class Box:
    """A step: left upper corner, width and height, in pixels; ``text`` is as much of its name as fits."""

    step: str
    text: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Drawing:
    """Boxes, and for each edge the path of an SVG, within ``width`` x ``height`` pixels."""

    boxes: tuple[Box, ...]
    paths: tuple[str, ...]
    width: float
    height: float


def laid_out(steps: Sequence[str], edges: Sequence[tuple[str, str]]) -> Drawing:
    """The drawing of a graph of steps, without edges of what is no step and those that close a circle."""
    if not steps:
        return Drawing((), (), 0.0, 0.0)
    ranked = _acyclic(steps, edges)
    widths = {step: max(min(len(step), _LETTERS) * _LETTER + 26, _NARROWEST) for step in steps}
    layer = _layers(steps, ranked, widths)
    chains, rows = _chains(ranked, layer, steps)
    _ordered(rows, chains)
    x = _placed(rows, chains, widths)
    least = min(x[node] - _width(node, widths) / 2 for row in rows for node in row)
    most = max(x[node] + _width(node, widths) / 2 for row in rows for node in row)
    boxes = tuple(
        Box(
            step,
            cut(step, _LETTERS),
            x[step] - least - widths[step] / 2,
            2 + layer[step] * (_HEIGHT + _BETWEEN),
            widths[step],
            _HEIGHT,
        )
        for step in steps
    )
    paths = tuple(_path([(x[node] - least, layer_of) for node, layer_of in chain]) for chain in chains)
    return Drawing(boxes, paths, most - least + 2, len(rows) * (_HEIGHT + _BETWEEN) - _BETWEEN + 6)


_Node = str | tuple[str, int]  # a step, or the place in a layer of all lines that come from a step
_Chain = Sequence[tuple[_Node, int]]


def _acyclic(steps: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each edge once, without those that would close a circle."""
    known = set(steps)
    users: dict[str, list[str]] = {step: [] for step in steps}
    for source, target in dict.fromkeys((a, b) for a, b in edges if a != b and a in known and b in known):
        users[source].append(target)
    state: dict[str, int] = {}
    kept = []
    for root in steps:
        if root in state:
            continue
        state[root] = 1
        stack = [(root, iter(users[root]))]
        while stack:
            node, rest = stack[-1]
            for target in rest:
                if state.get(target) == 1:  # on the way here
                    continue
                kept.append((node, target))
                if target not in state:
                    state[target] = 1
                    stack.append((target, iter(users[target])))
                    break
            else:
                state[node] = 2
                stack.pop()
    return kept


def _layers(steps: Sequence[str], edges: Sequence[tuple[str, str]], widths: Mapping[str, float]) -> dict[str, int]:
    """The layer of each step: below all it needs, as high as there is room, sources close to what needs them first."""
    needs: dict[str, list[str]] = {step: [] for step in steps}
    users: dict[str, list[str]] = {step: [] for step in steps}
    for source, target in edges:
        needs[target].append(source)
        users[source].append(target)
    order = _topological(steps, needs, users)
    depth: dict[str, int] = {}
    for step in order:
        depth[step] = 1 + max((depth[s] for s in needs[step]), default=-1)
    for step in reversed(order):
        if not needs[step] and users[step]:
            depth[step] = min(depth[s] for s in users[step]) - 1
    room: dict[int, float] = {}
    layer: dict[str, int] = {}
    for step in sorted(order, key=lambda step: (depth[step], order.index(step))):
        at = max([depth[step], *(layer[s] + 1 for s in needs[step])])
        while room.get(at, WIDTH + _GAP) < widths[step] + _GAP:
            at += 1
        room[at] = room.get(at, WIDTH + _GAP) - widths[step] - _GAP
        layer[step] = at
    used = {old: new for new, old in enumerate(sorted(set(layer.values())))}
    return {step: used[at] for step, at in layer.items()}


def _topological(
    steps: Sequence[str], needs: Mapping[str, Sequence[str]], users: Mapping[str, Sequence[str]]
) -> list[str]:
    missing = {step: len(needs[step]) for step in steps}
    order = [step for step in steps if not missing[step]]
    for step in order:
        for user in users[step]:
            missing[user] -= 1
            if not missing[user]:
                order.append(user)
    return order


def _chains(
    edges: Sequence[tuple[str, str]], layer: Mapping[str, int], steps: Sequence[str]
) -> tuple[list[_Chain], list[list[_Node]]]:
    """For each edge its nodes from layer to layer; and the nodes of each layer. Lines from one step go together."""
    rows: list[list[_Node]] = [[] for _ in range(max(layer.values()) + 1)]
    for step in steps:
        rows[layer[step]].append(step)
    chains: list[_Chain] = []
    seen: set[_Node] = set()
    for source, target in edges:
        chain: list[tuple[_Node, int]] = [(source, layer[source])]
        for at in range(layer[source] + 1, layer[target]):
            node = (source, at)
            if node not in seen:
                seen.add(node)
                rows[at].append(node)
            chain.append((node, at))
        chains.append([*chain, (target, layer[target])])
    return chains, rows


def _neighbours(chains: Sequence[_Chain]) -> tuple[dict[_Node, list[_Node]], dict[_Node, list[_Node]]]:
    above: dict[_Node, list[_Node]] = {}
    below: dict[_Node, list[_Node]] = {}
    for chain in chains:
        for (upper, _), (lower, _) in itertools.pairwise(chain):
            above.setdefault(lower, []).append(upper)
            below.setdefault(upper, []).append(lower)
    return above, below


def _ordered(rows: list[list[_Node]], chains: Sequence[_Chain]) -> None:
    """Sort each layer, in place, so that few lines cross."""
    above, below = _neighbours(chains)
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(_SWEEPS):
        near = below if sweep % 2 else above
        for row in reversed(rows) if sweep % 2 else rows:
            place = {node: i for other in rows for i, node in enumerate(other)}
            mean = {node: sum(place[n] for n in near[node]) / len(near[node]) for node in row if near.get(node)}
            row.sort(key=lambda node: mean.get(node, place[node]))
        now = _crossings(rows, below)
        if now < fewest:
            best, fewest = [list(row) for row in rows], now
    for row, found in zip(rows, best, strict=True):
        row[:] = found


def _crossings(rows: Sequence[Sequence[_Node]], below: Mapping[_Node, Sequence[_Node]]) -> int:
    total = 0
    for row, under in itertools.pairwise(rows):
        place = {node: i for i, node in enumerate(under)}
        ends = [place[target] for node in row for target in sorted(below.get(node, ()), key=place.__getitem__)]
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


def _width(node: _Node, widths: Mapping[str, float]) -> float:
    return widths[node] if isinstance(node, str) else _LINE


def _placed(
    rows: Sequence[Sequence[_Node]], chains: Sequence[_Chain], widths: Mapping[str, float]
) -> dict[_Node, float]:
    """The middle of each node."""
    above, below = _neighbours(chains)
    x: dict[_Node, float] = {}
    for row in rows:
        total = sum(_width(node, widths) + _GAP for node in row)
        at = (WIDTH - total) / 2
        for node in row:
            x[node] = at + _width(node, widths) / 2
            at += _width(node, widths) + _GAP
    for sweep in range(_SWEEPS):
        for row in reversed(rows) if sweep % 2 else rows:
            apart = [(_width(a, widths) + _width(b, widths)) / 2 + _GAP for a, b in itertools.pairwise(row)]
            wanted = []
            for node in row:
                near = [*above.get(node, ()), *below.get(node, ())]
                wanted.append(sum(x[n] for n in near) / len(near) if near else WIDTH / 2)
            ends = (_width(row[0], widths) / 2, WIDTH - _width(row[-1], widths) / 2)
            x |= dict(zip(row, _pooled(wanted, apart, ends), strict=True))
    return x


def _pooled(wanted: Sequence[float], apart: Sequence[float], ends: tuple[float, float]) -> list[float]:
    """The places closest to those wanted (least squares) with at least ``apart`` between neighbours, in order.

    ``ends``: the least of the first and the most of the last; what is too wide for that stands over both alike.

    >>> _pooled([0.0, 0.0], [10.0], (-50.0, 50.0))
    [-5.0, 5.0]
    >>> _pooled([0.0, 0.0], [10.0], (0.0, 50.0))
    [0.0, 10.0]
    """
    offsets = [0.0]
    for distance in apart:
        offsets.append(offsets[-1] + distance)
    blocks: list[tuple[float, int]] = []  # mean, size: pool adjacent violators
    for want, offset in zip(wanted, offsets, strict=True):
        mean, size = want - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, n = blocks.pop()
            mean, size = (mean * size + other * n) / (size + n), size + n
        blocks.append((mean, size))
    low, high = ends[0], ends[1] - offsets[-1]
    if low > high:
        low = high = (low + high) / 2
    means = [min(max(mean, low), high) for mean, size in blocks for _ in range(size)]  # cutting off stays the closest
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _path(points: Sequence[tuple[float, int]]) -> str:
    """A line from below a box through its places to above another, upright where it leaves and enters layers."""
    pitch = _HEIGHT + _BETWEEN
    x, at = points[0]
    found = [f"M{x:.1f} {2 + at * pitch + _HEIGHT:.1f}"]
    for i, (right, down) in enumerate(points[1:], 1):
        y0, y1 = 2 + (down - 1) * pitch + _HEIGHT, 2 + down * pitch
        middle = (y0 + y1) / 2
        found.append(f"C{x:.1f} {middle:.1f} {right:.1f} {middle:.1f} {right:.1f} {y1:.1f}")
        if i < len(points) - 1:
            found.append(f"V{y1 + _HEIGHT:.1f}")
        x = right
    return "".join(found)
