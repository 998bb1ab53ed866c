"""The keys of a file that set the size of a step's tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config.model import Config


__all__ = ["TuningKnob", "tuning_knobs", "two_digits"]


@dataclass(frozen=True)
class TuningKnob:
    """The key of the file that sets the size of a step's tasks: ``batch``, or ``chunks`` of the step or of its source.

    Parameters
    ----------
    path : ``steps.parse.batch``
    kind : ``batch`` or ``chunks``
    n_items : of a batch: the number of items of the step
    """

    path: str
    kind: str
    n_items: int = 0


def tuning_knobs(config: Config, n_items: Mapping[str, int] | None = None) -> dict[str, TuningKnob]:
    """Return for each step the key that sets the size of its tasks: its ``batch``, its ``chunks``, or its source's.

    Parameters
    ----------
    n_items : step -> number of items of its ``over``
    """
    found: dict[str, TuningKnob] = {}
    for step in config.steps.values():
        if step.over is not None:
            found[step.step] = TuningKnob(f"steps.{step.step}.batch", "batch", (n_items or {}).get(step.step, 0))
        elif getattr(step.parameters, "chunks", None):
            found[step.step] = TuningKnob(f"steps.{step.step}.chunks", "chunks")
        else:  # steps come after the steps that they refer to
            sources = (found.get(reference.step) for reference in step.references())
            inherited = next((knob for knob in sources if knob is not None and knob.kind == "chunks"), None)
            if inherited is not None:
                found.setdefault(step.step, inherited)
    return found


def two_digits(n: int) -> int:
    """Round a suggested number to two digits.

    >>> two_digits(1234)
    1200
    """
    return round(n, -max(0, len(str(n)) - 2))
