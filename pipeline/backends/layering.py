"""Where the boxes of a graph of steps stand when it is drawn in layers, and the way of each arrow between them.

A step stands one layer after the last of those it needs; an arrow over several layers has a place in each of them, so
that no box stands on its way; within a layer the places are ordered so that few arrows cross.

References
----------
Sugiyama, Tagawa, Toda: Methods for Visual Understanding of Hierarchical System Structures. IEEE Transactions on
Systems, Man, and Cybernetics 11 (1981) 109-125.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Drawing", "layered"]

_SWEEPS = 8

Point = tuple[int, float]


@dataclass(frozen=True)
class Drawing:
    """Places as (layer, place in the layer), both from 0; places are at least 1 apart, and may be fractions.

    Parameters
    ----------
    boxes : one for each step
    arrows : for each edge its places, from the first box to the second
    """

    boxes: tuple[Point, ...]
    arrows: tuple[tuple[Point, ...], ...]


def layered(n: int, edges: Sequence[tuple[int, int]]) -> Drawing:
    """The drawing of an acyclic graph of ``n`` nodes; O((nodes + places of arrows) log) a sweep.

    Raises
    ------
    ValueError : if there is a cycle

    >>> layered(3, [(0, 1), (1, 2), (0, 2)]).boxes
    ((0, 0.5), (1, 0.0), (2, 0.5))
    """
    layer = _layers(n, edges)
    layers: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for node in range(n):
        layers[layer[node]].append(node)
    ways: list[list[int]] = []
    neighbours: list[tuple[list[int], list[int]]] = [([], []) for _ in range(n)]  # in the layer before and after
    for start, stop in edges:
        way = [start]
        for level in range(layer[start] + 1, layer[stop]):
            way.append(len(neighbours))
            layers[level].append(len(neighbours))
            neighbours.append(([], []))
        way.append(stop)
        for one, next_ in itertools.pairwise(way):
            neighbours[one][1].append(next_)
            neighbours[next_][0].append(one)
        ways.append(way)
    place = _places(layers, neighbours)
    level_of = {node: level for level, nodes in enumerate(layers) for node in nodes}
    points = [(level_of[node], place[node]) for node in range(len(neighbours))]
    return Drawing(tuple(points[:n]), tuple(tuple(points[node] for node in way) for way in ways))


def _layers(n: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """For each node the length of the longest path to it; a source stands just before the first that needs it."""
    after: list[list[int]] = [[] for _ in range(n)]
    missing = [0] * n
    for start, stop in edges:
        after[start].append(stop)
        missing[stop] += 1
    sources = [node for node in range(n) if not missing[node]]
    layer, order = [0] * n, list(sources)
    for node in order:
        for next_ in after[node]:
            layer[next_] = max(layer[next_], layer[node] + 1)
            missing[next_] -= 1
            if not missing[next_]:
                order.append(next_)
    if len(order) < n:
        raise ValueError(f"{n - len(order)} of {n} steps lie on a cycle")
    for node in sources:
        if after[node]:
            layer[node] = min(layer[next_] for next_ in after[node]) - 1
    return layer


def _places(layers: list[list[int]], neighbours: list[tuple[list[int], list[int]]]) -> list[float]:
    """For each node its place in its layer, near the middle of its neighbours."""
    place = [0.0] * len(neighbours)
    for nodes in layers:
        for i, node in enumerate(nodes):
            place[node] = float(i)
    for sweep in range(_SWEEPS):
        side = sweep % 2
        for nodes in layers if not side else reversed(layers):
            wanted = {node: _middle([place[m] for m in neighbours[node][side]], place[node]) for node in nodes}
            nodes.sort(key=lambda node: (wanted[node], place[node]))
            for node, where in zip(nodes, _apart([wanted[node] for node in nodes]), strict=True):
                place[node] = where
    least = min(place, default=0.0)
    return [round(where - least, 3) for where in place]


def _middle(places: Sequence[float], default: float) -> float:
    return sum(places) / len(places) if places else default


def _apart(wanted: Sequence[float]) -> list[float]:
    """Places in this order, at least 1 apart, as near to the wanted ones as least squares have them."""
    blocks: list[tuple[float, int]] = []  # sum of (wanted - position within the block), length
    for where in wanted:
        total, length = where, 1
        while blocks and total / length < blocks[-1][0] / blocks[-1][1] + blocks[-1][1]:
            before, n = blocks.pop()
            total, length = before + total - n * length, n + length
        blocks.append((total, length))
    return [total / length + i for total, length in blocks for i in range(length)]
