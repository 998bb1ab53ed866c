"""Try the first recommendation in one more round, where it is a setting and a round is short enough."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pipeline.experiments.comparison.advice import Advice, Recommendation, Tried
from pipeline.experiments.comparison.result import Case, Comparison, Difference, Measurement, equality_text
from pipeline.units import duration_text

if TYPE_CHECKING:
    from pipeline.graph.graph import Graph


__all__ = ["Extra", "changed", "with_trial"]


class Extra(Protocol):
    """Make one more round of a case with another Graph; return its measurement, or why it failed, and its results."""

    def __call__(self, case: Case, graph: Graph) -> tuple[Measurement | str, list[Difference]]: ...


def with_trial(comparison: Comparison, graph: Graph, extra: Extra, most: float) -> Comparison:
    """Return the comparison with the first recommendation tried, or with the reason why it was not.

    Parameters
    ----------
    most : seconds that the round may take; 0: nothing is tried
    """
    if not comparison.recommendations:
        return comparison
    first, *others = comparison.recommendations
    if not first.advice.is_setting:
        return comparison
    takes = _expected(comparison, first)
    if not most:
        first = replace(first, not_tried="not tried")
    elif takes > most:
        first = replace(
            first,
            not_tried=f"not tried: a round takes about {duration_text(takes)}, --try allows {duration_text(most)}",
        )
    else:
        first = replace(first, tried=_tried(comparison, first, graph, extra))
    return replace(comparison, recommendations=(first, *others))


def _expected(comparison: Comparison, one: Recommendation) -> float:
    """Return the seconds that a round should take: those of the slowest process of the back end that ran."""
    like = [m for m in comparison.measurements if m.backend == one.backend] or comparison.measurements
    return max(m.process for m in like)


def _tried(comparison: Comparison, one: Recommendation, graph: Graph, extra: Extra) -> Tried:
    serial = comparison.rows[0].elapsed
    measured, differences = extra(Case(one.backend, one.n_workers), changed(graph, one.advice))
    if isinstance(measured, str):
        return Tried(0.0, 0.0, "", failure=measured)
    assert serial is not None, "without serial nothing is recommended"
    equality = equality_text(differences) if differences else "equal"
    return Tried(measured.elapsed, serial.value / measured.elapsed, equality)


def changed(graph: Graph, advice: Advice) -> Graph:
    """Return the Graph with a batch set; other settings don't change it."""
    if advice.kind not in ("batch", "smaller batch"):
        return graph
    policies = {
        name: replace(policy, batch=advice.n) if policy.step == advice.step and policy.over else policy
        for name, policy in graph.policies.items()
    }
    return replace(graph, policies=policies)
