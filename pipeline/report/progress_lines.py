"""The lines of the live table: one a step, the failed and the running ones first, no more than the terminal has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.backends.events import ItemDropped, Note, OutputLine, TaskRetry, WorkerLoss
from pipeline.errors import printable, where
from pipeline.units import count_text, duration_text

if TYPE_CHECKING:
    from pipeline.report.progress_counts import Counts, Step


__all__ = ["MOST_LINES", "Outspoken", "step_lines", "table_lines", "told"]

MOST_LINES = 100
"""So many of the lines that the tasks of a step write are shown."""


def table_lines(counts: Counts, *, height: int, width: int) -> list[str]:
    """A line a step, and below them how far the run is and what is left of it."""
    if not counts.steps:
        return []
    lines = step_lines(list(counts.steps.values()), height=height - 1, width=width)
    return [*lines, _cut(f"{counts.done:,} of {counts.n_tasks:,} tasks{_and(counts.left().text())}", width)]


def _and(text: str) -> str:
    return f"; {text}" if text else ""


def step_lines(steps: list[Step], *, height: int, width: int) -> list[str]:
    """A line a step, no more than ``height``: the failed first, then those under way, the next, and what has ended.

    Those of one kind stay in the order of the file; of the ended, the last are shown. A last line says how many are not
    shown.
    """
    height = max(2, height)
    shown = sorted(steps, key=_rank)
    if len(steps) > height:
        chosen = sorted(steps, key=lambda step: (_rank(step), -(step.last or 0.0)))[: height - 1]
        shown = sorted(chosen, key=_rank)
    name_width = min(max((len(step.name) for step in shown), default=0), max(8, width // 3))
    count_width = max((len(f"{step.n_tasks:,}") for step in shown), default=1)
    lines = [_step_line(step, name_width, count_width, width) for step in shown]
    hidden = [step for step in steps if step not in shown]
    if hidden:
        states = {"done": sum(step.ended for step in hidden), "under way": sum(_rank(step) == 2 for step in hidden)}
        states["not begun"] = len(hidden) - sum(states.values())
        said = ", ".join(f"{n} {what}" for what, n in states.items() if n)
        lines.append(_cut(f"… {count_text(len(hidden), 'more step')}: {said}", width))
    return lines


def _rank(step: Step) -> int:
    """Failed for good, something went wrong, under way, not begun, ended."""
    if step.failed:
        return 0
    if step.ended:
        return 4
    if step.extras():
        return 1
    return 2 if step.done else 3


def _step_line(step: Step, name_width: int, count_width: int, width: int) -> str:
    count = f" {step.done:>{count_width},}/{step.n_tasks:>{count_width},}"
    elapsed = f"  {duration_text(step.elapsed):>8}"
    extras = f"  {step.extras()}" if step.extras() else ""
    room = width - name_width - len(count) - len(elapsed) - len(extras) - 2
    if room < 4:  # what went wrong says more than the bar and the time
        name_width = max(8, min(name_width, width - len(count) - len(extras)))
        return _cut(f"{_cut(step.name, name_width):<{name_width}}{count}{extras}", width)
    room = min(40, room)
    full = room * step.done // step.n_tasks if step.n_tasks else room
    return f"{_cut(step.name, name_width):<{name_width}} {'━' * full}{'╌' * (room - full)}{count}{elapsed}{extras}"


def _cut(line: str, width: int) -> str:
    """The line, with an ellipsis for what is beyond the width."""
    return line if len(line) <= width else f"{line[: width - 1]}…"


def told(event: TaskRetry | ItemDropped | WorkerLoss | Note | OutputLine) -> str:
    """An event out of the ordinary, or what a task wrote, as a line."""
    message = printable(event.message)
    if isinstance(event, Note):
        return message
    task = printable(where(event.step, event.item))
    if isinstance(event, OutputLine):  # an empty line is one, too
        return f"{task}: {message}"
    return ": ".join(part for part in (event.kind, task, message) if part)


class Outspoken:
    """Which of the lines that tasks write are shown: the first hundred of each step, then one that says where the
    others are.

    Parameters
    ----------
    kept : where all of them are; empty: nowhere
    """

    def __init__(self, kept: str = "tasks.log in the run folder") -> None:
        self._kept = f"kept in {kept}" if kept else "not shown"
        self._n: dict[str, int] = {}

    def line(self, event: OutputLine, step: str) -> str | None:
        """What to show of a line; None: nothing."""
        n = self._n[step] = self._n.get(step, 0) + 1
        if n <= MOST_LINES:
            return told(event)
        return f"{step}: what else it prints is {self._kept}" if n == MOST_LINES + 1 else None

    def summary(self) -> list[str]:
        """What to say at the end of what was not shown."""
        hidden = {step: n - MOST_LINES for step, n in self._n.items() if n > MOST_LINES}
        return [f"{step}: {count_text(n, 'more line is', 'more lines are')} {self._kept}" for step, n in hidden.items()]
