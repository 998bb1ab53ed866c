"""The colours of the report: safe for the colour-blind, told apart in print, the same for a step everywhere.

The steps have Paul Tol's nine "muted" colours and his grey; core-seconds have Okabe and Ito's, so that nobody takes a
class of losses for a step. There are no more than nine colours that everybody can tell apart: the steps that took
longest get them, all others are grey, and named where the pointer is.

References
----------
Paul Tol, "Colour Schemes", SRON/EPS/TN/09-002, 2021. Okabe and Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["DARK", "FASTER", "LOSSES", "OTHER", "SLOWER", "UNCLEAR", "of_steps", "step_of"]

DARK = "#1a1a1a"
FASTER, SLOWER, UNCLEAR = "#0072B2", "#D55E00", "#8c8c8c"
OTHER = "#c4c4c4"

# The light ones first: most of what is drawn is of few steps, and the critical path is outlined in black on them.
_STEPS = ("#88CCEE", "#CC6677", "#DDCC77", "#44AA99", "#AA4499", "#999933", "#117733", "#332288", "#882255")

LOSSES: Mapping[str, str] = {
    "useful": "#0072B2",
    "task": "#0072B2",
    "inflation": "#D55E00",
    "runtime": "#CC79A7",
    "transfer": "#E69F00",
    "scheduling": "#F0E442",
    "dependency": "#56B4E9",
    "unexplained": "#333333",
}


def step_of(copy: str) -> str:
    """The step that a copy is of: copies share a colour.

    >>> step_of("fit[A1B]"), step_of("write summary")
    ('fit', 'write summary')
    """
    return copy.partition("[")[0] or copy


def of_steps(steps: Iterable[str]) -> dict[str, str]:
    """Step -> colour; the first nine have one of their own."""
    names = list(dict.fromkeys(steps))
    return {name: _STEPS[i] if i < len(_STEPS) else OTHER for i, name in enumerate(names)}
