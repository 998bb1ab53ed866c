"""Work, span and schedule of the graph with the serial run's task times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from pipeline.experiments.comparison.causes import guilty
from pipeline.experiments.comparison.judge import structural
from pipeline.experiments.explanation.diagnosis import Structure
from pipeline.experiments.explanation.selection import Sampled, layer_of
from pipeline.graph.graph import Graph
from pipeline.graph.nodes import is_constant
from pipeline.graph.segments import Segment
from pipeline.trace.critical_path import longest_path, span
from pipeline.trace.measured_schedule import MeasuredSchedule
from pipeline.trace.replay import makespan, replay
from pipeline.trace.shape import Shape

__all__ = ["estimated", "scheduled", "segment_seconds", "structure"]


def estimated(graph: Graph, sampled: Sampled) -> dict[str, float]:
    """Return the seconds of every task: measured, or else the mean of its layer, or of its step.

    A task of a step of which none ran counts 0 seconds; one that was killed counts the time that it had run.
    """
    by_layer: dict[tuple[str, str], list[float]] = defaultdict(list)
    by_step: dict[str, list[float]] = defaultdict(list)
    for t in sampled.times.values():
        by_layer[t.step, t.layer].append(t.seconds)
        by_step[t.step].append(t.seconds)
    found = {}
    for key, node in graph.tasks.items():
        if is_constant(node):
            continue
        name, step = str(key), graph.policies[graph.owners[key]].step
        if name in sampled.times:
            found[name] = sampled.times[name].seconds
        elif sampled.cut is not None and sampled.cut[0] == name:
            found[name] = sampled.cut[2]
        else:
            like = by_layer.get((step, layer_of(key))) or by_step.get(step) or [0.0]
            found[name] = sum(like) / len(like)
    return found


def scheduled(
    segments: Sequence[Segment], seconds: Mapping[str, float], n_workers: int, overhead: float = 0.0
) -> float:
    """Return the seconds of a schedule with these task times, and ``overhead`` more for each segment."""
    return makespan(replay(segments, seconds, n_workers=n_workers, overhead=overhead))


def structure(
    graph: Graph, shape: Shape, segments: Sequence[Segment], seconds: Mapping[str, float], n_workers: int
) -> Structure:
    """Return work, span and schedule of a Graph.

    Parameters
    ----------
    shape : of the Graph
    segments : of the Graph, fused for ``n_workers``
    seconds : task's key as text -> seconds
    """
    step, layer = {}, {}
    for key, node in graph.tasks.items():
        if not is_constant(node):
            step[str(key)] = graph.policies[graph.owners[key]].step
            layer[str(key)] = layer_of(key)
    longest = max(seconds, key=seconds.__getitem__, default="")
    alike = [s for key, s in seconds.items() if longest and layer[key] == layer[longest] and step[key] == step[longest]]
    path = longest_path(shape.needs, seconds)
    planned = MeasuredSchedule.planned(segments, seconds, shape, n_workers)
    cause = guilty([structural(planned)], 0)
    on_path: dict[str, float] = defaultdict(float)
    for key in path:
        on_path[step[key]] += seconds[key]
    return Structure(
        n_workers=n_workers,
        work=sum(seconds.values()),
        span=span(shape.needs, seconds),
        schedule=scheduled(segments, seconds, n_workers),
        longest=seconds.get(longest, 0.0),
        longest_task=longest,
        longest_step=step.get(longest, ""),
        n_tasks=len(seconds),
        median=median(alike) if alike else 0.0,
        path=tuple(sorted(on_path.items(), key=lambda item: -item[1])),
        n_path=len(path),
        cause=cause.kind,
        guilty=cause.steps,
        after=cause.after,
    )


def segment_seconds(segments: Sequence[Segment], graph: Graph, seconds: Mapping[str, float]) -> dict[str, float]:
    """Return for each step the mean seconds of the segments that hold tasks of it."""
    n: dict[str, int] = defaultdict(int)
    total: dict[str, float] = defaultdict(float)
    for segment in segments:
        tasks = [inner for inner in segment.tasks if str(inner.key) in seconds]
        whole = sum(seconds[str(inner.key)] for inner in tasks)
        for step in {graph.policies[graph.owners[inner.key]].step for inner in tasks}:
            n[step] += 1
            total[step] += whole
    return {step: total[step] / n[step] for step in n}
