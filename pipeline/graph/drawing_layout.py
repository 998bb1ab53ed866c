"""Place the boxes and lines of a graph of steps for a drawing: in layers from top to bottom, within a width.

1. *Layers.* Each step is below all steps it needs. A layer takes as many boxes as fit side by side; the next one goes
   one layer down, so that a drawing of a hundred steps gets longer, not smaller.
2. *Order.* Within a layer, nodes are sorted by the mean position of their neighbours, in passes up and down
   (Sugiyama's method). A line that crosses a layer is a node there, so that no line runs over a box.
3. *Positions.* Each node moves as close to the mean of its neighbours as the order allows: a least-squares problem that
   pooling adjacent violators solves exactly, one layer at a time.

The result is boxes and SVG paths in pixels; the callers draw them. Rejected: positions as (layer, number), which each
caller would convert to pixels in a different way; drawing from left to right, since names are wide and graphs are deep.

References
----------
Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures". IEEE Transactions on
Systems, Man, and Cybernetics 11 (1981) 109-125.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import printable

__all__ = ["Box", "Drawing", "Sizes", "cut", "place_boxes"]

_GAP, _LINE, _MARGIN = 18.0, 10.0, 3.0  # pixels: between boxes, for a line that crosses a layer, around the drawing
_BESIDE, _LETTERS = 26.0, 26  # pixels in a box beside its text; most letters of the text
_PASSES, _TRIES, _LEAST = 12, 4, 0.6  # _LEAST: smallest share of the width for boxes, where many lines pass them


@dataclass(frozen=True)
class Sizes:
    """The sizes of a drawing in pixels.

    Parameters
    ----------
    width : greatest width of the drawing; a wider box has a layer alone
    height : of a box
    between : from the bottom of a layer to the top of the next
    narrowest : least width of a box
    letter : width of one letter of the text in a box
    """

    width: float = 1_120.0
    height: float = 40.0
    between: float = 34.0
    narrowest: float = 112.0
    letter: float = 7.8


@dataclass(frozen=True)
class Box:
    """The box of a step: upper left corner, width and height in pixels; ``text`` is the name, shortened to fit."""

    step: str
    text: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Drawing:
    """A placed graph: all of it within ``width`` x ``height`` pixels, from (0, 0), with a margin for thick frames.

    Parameters
    ----------
    boxes : one for each step, in the order of the steps
    edges : the edges that are drawn, as (step, step that needs it)
    paths : for each edge an SVG path, from the bottom of the first box to the top of the second
    """

    boxes: tuple[Box, ...]
    edges: tuple[tuple[str, str], ...]
    paths: tuple[str, ...]
    width: float
    height: float


def place_boxes(
    steps: Sequence[str],
    edges: Sequence[tuple[str, str]],
    sizes: Sizes | None = None,
    *,
    widths: Mapping[str, float] | None = None,
) -> Drawing:
    """Place a graph of steps; the same graph always gives the same drawing.

    Edges from or to unknown steps, and edges that would close a cycle, are left out. O(n log n) per pass, where n
    counts the nodes, the edges and each layer that an edge crosses.

    Parameters
    ----------
    steps : their names, each once
    edges : (step, step that needs it)
    widths : step -> width of its box in pixels; from the length of the name for steps that are missing

    >>> [(box.step, box.y) for box in place_boxes(["a", "b"], [("a", "b")]).boxes]
    [('a', 3.0), ('b', 77.0)]
    """
    if not steps:
        return Drawing((), (), (), 0.0, 0.0)
    sizes = sizes or Sizes()
    shown = {step: cut(step, _LETTERS) for step in steps}
    fitting = {step: max(len(text) * sizes.letter + _BESIDE, sizes.narrowest) for step, text in shown.items()}
    widths = {**fitting, **(widths or {})}
    drawn = _acyclic(steps, edges)
    inner = room = sizes.width - 2 * _MARGIN
    for _ in range(_TRIES):
        layer = _layers(steps, drawn, widths, room)
        chains, rows = _chains(drawn, layer, steps)
        wanting = max(sum(_slots(row, widths, _LINE)) for row in rows) - inner
        if wanting <= 0 or room <= _LEAST * inner:
            break
        room = max(room - wanting, _LEAST * inner)
    _ordered(rows, chains)
    x = _placed(rows, chains, widths, inner)
    least = min(x[row[0]] - _half(row[0], widths) for row in rows) - _MARGIN
    most = max(x[row[-1]] + _half(row[-1], widths) for row in rows) + _MARGIN
    pitch = sizes.height + sizes.between
    boxes = tuple(
        Box(step, text, x[step] - least - widths[step] / 2, _MARGIN + layer[step] * pitch, widths[step], sizes.height)
        for step, text in shown.items()
    )
    paths = tuple(_path([(x[node] - least, at) for node, at in chain], sizes) for chain in chains)
    return Drawing(boxes, tuple(drawn), paths, most - least, len(rows) * pitch - sizes.between + 2 * _MARGIN)


def cut(text: str, length: int) -> str:
    """Return the text on one line, shortened to ``length`` letters in the middle, where names differ least.

    >>> cut("a_long_name-17", 9)
    'a_lo…e-17'
    """
    text = printable(text)
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


# ---------------------------------------------------------------------------------------------------------------------
# Layers
# ---------------------------------------------------------------------------------------------------------------------

_Node = str | tuple[str, int]  # a step, or (step, layer): the lines from that step, where they cross the layer
_Chain = Sequence[tuple[_Node, int]]


def _acyclic(steps: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return each edge once, without those that would close a cycle."""
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
                if state.get(target) == 1:  # on the current path: the edge would close a cycle
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


def _layers(
    steps: Sequence[str], edges: Sequence[tuple[str, str]], widths: Mapping[str, float], room: float
) -> dict[str, int]:
    """Return the layer of each step: below all it needs, as high as there is room; sources just above their users."""
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
    left: dict[int, float] = {}
    layer: dict[str, int] = {}
    for step in sorted(order, key=depth.__getitem__):
        at = max([depth[step], *(layer[s] + 1 for s in needs[step])])
        slot = widths[step] + _GAP
        while at in left and left[at] < slot:
            at += 1
        left[at] = left.get(at, room) - slot
        layer[step] = at
    used = {old: new for new, old in enumerate(sorted(left))}
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
    """Return the nodes of each edge from layer to layer, and the nodes of each layer. One step's lines share nodes."""
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


# ---------------------------------------------------------------------------------------------------------------------
# Order and positions within the layers
# ---------------------------------------------------------------------------------------------------------------------


def _neighbours(chains: Sequence[_Chain]) -> tuple[dict[_Node, list[_Node]], dict[_Node, list[_Node]]]:
    above: dict[_Node, list[_Node]] = {}
    below: dict[_Node, list[_Node]] = {}
    for chain in chains:
        for (upper, _), (lower, _) in itertools.pairwise(chain):
            above.setdefault(lower, []).append(upper)
            below.setdefault(upper, []).append(lower)
    return above, below


def _ordered(rows: list[list[_Node]], chains: Sequence[_Chain]) -> None:
    """Sort the nodes of each layer, in place, so that few lines cross."""
    above, below = _neighbours(chains)
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    place = {node: i for row in rows for i, node in enumerate(row)}
    for number in range(_PASSES):
        if not fewest:
            break
        near = below if number % 2 else above
        for row in reversed(rows) if number % 2 else rows:
            mean = {node: sum(place[n] for n in near[node]) / len(near[node]) for node in row if near.get(node)}
            row.sort(key=lambda node: mean.get(node, place[node]))
            place |= {node: i for i, node in enumerate(row)}
        now = _crossings(rows, below)
        if now < fewest:
            best, fewest = [list(row) for row in rows], now
    for row, found in zip(rows, best, strict=True):
        row[:] = found


def _crossings(rows: Sequence[Sequence[_Node]], below: Mapping[_Node, Sequence[_Node]]) -> int:
    total = 0
    for row, under in itertools.pairwise(rows):
        place = {node: i for i, node in enumerate(under)}
        before: list[int] = []
        for node in row:
            ends = [place[target] for target in below.get(node, ())]
            total += sum(len(before) - bisect_right(before, end) for end in ends)
            for end in ends:
                insort(before, end)
    return total


def _slots(row: Sequence[_Node], widths: Mapping[str, float], line: float) -> list[float]:
    """Return the width that each node of a layer takes, in pixels; ``line`` for a line."""
    return [widths[node] + _GAP if isinstance(node, str) else line for node in row]


def _half(node: _Node, widths: Mapping[str, float]) -> float:
    return widths[node] / 2 if isinstance(node, str) else 0.0


def _placed(
    rows: Sequence[Sequence[_Node]], chains: Sequence[_Chain], widths: Mapping[str, float], inner: float
) -> dict[_Node, float]:
    """Return the x of the middle of each node. Lines move closer together where room is short, but not onto a box."""
    above, below = _neighbours(chains)
    x: dict[_Node, float] = {}
    apart: list[list[float]] = []
    for row in rows:
        n_lines = sum(not isinstance(node, str) for node in row)
        line = min(_LINE, max(inner - sum(_slots(row, widths, 0.0)), 0.0) / max(n_lines, 1))
        slots = _slots(row, widths, line)
        apart.append([(a + b) / 2 for a, b in itertools.pairwise(slots)])
        first = (inner - sum(slots) + slots[0]) / 2
        x |= dict(zip(row, itertools.accumulate(apart[-1], initial=first), strict=True))
    numbered = list(zip(rows, apart, strict=True))
    for number in range(_PASSES):
        for row, distances in reversed(numbered) if number % 2 else numbered:
            wanted = []
            for node in row:
                near = [*above.get(node, ()), *below.get(node, ())]
                wanted.append(sum(x[n] for n in near) / len(near) if near else inner / 2)
            ends = (_half(row[0], widths), inner - _half(row[-1], widths))
            x |= dict(zip(row, _pooled(wanted, distances, ends), strict=True))
    return x


def _pooled(wanted: Sequence[float], apart: Sequence[float], ends: tuple[float, float]) -> list[float]:
    """Return the positions closest to ``wanted`` (least squares) that keep the order and the distances ``apart``.

    Parameters
    ----------
    wanted : N positions
    apart : N - 1 least distances between neighbours
    ends : least position of the first and greatest of the last; if there is not enough room, both are exceeded alike

    >>> _pooled([0.0, 0.0], [10.0], (-50.0, 50.0))
    [-5.0, 5.0]
    >>> _pooled([0.0, 0.0], [10.0], (0.0, 50.0))
    [0.0, 10.0]
    """
    offsets = [0.0, *itertools.accumulate(apart)]
    blocks: list[tuple[float, int]] = []  # (mean, size) of each pool of adjacent violators
    for want, offset in zip(wanted, offsets, strict=True):
        mean, size = want - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, n = blocks.pop()
            mean, size = (mean * size + other * n) / (size + n), size + n
        blocks.append((mean, size))
    low, high = ends[0], ends[1] - offsets[-1]
    if low > high:
        low = high = (low + high) / 2
    means = [min(max(mean, low), high) for mean, size in blocks for _ in range(size)]  # clipping keeps them the closest
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _path(points: Sequence[tuple[float, int]], sizes: Sizes) -> str:
    """Return the SVG path of a line from one box down to another, vertical where it leaves and enters layers."""
    pitch = sizes.height + sizes.between
    x, at = points[0]
    found = [f"M{x:.1f} {_MARGIN + at * pitch + sizes.height:.1f}"]
    for i, (right, down) in enumerate(points[1:], 1):
        y0, y1 = _MARGIN + (down - 1) * pitch + sizes.height, _MARGIN + down * pitch
        middle = (y0 + y1) / 2
        found.append(f"C{x:.1f} {middle:.1f} {right:.1f} {middle:.1f} {right:.1f} {y1:.1f}")
        if i < len(points) - 1:
            found.append(f"V{y1 + sizes.height:.1f}")
        x = right
    return "".join(found)
