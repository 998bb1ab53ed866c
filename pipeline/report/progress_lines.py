"""The lines of the live table, one for each step as far as the terminal has room, and lines for single events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.backends.events import ItemDropped, Note, OutputLine, TaskFailed, TaskRetry, WorkerLoss
from pipeline.errors import printable, shortened, where
from pipeline.report.metadata_line import metadata_text
from pipeline.units import count_text, duration_text, time_left_text

if TYPE_CHECKING:
    from pipeline.report.progress_counts import Counts, Step


__all__ = ["MOST_LINES", "LineLimit", "event_line", "step_lines", "table_lines"]

MOST_LINES = 100
"""Number of lines printed by the tasks of a step that are shown."""


def table_lines(counts: Counts, *, height: int, width: int) -> list[str]:
    """Return a line for each step, and a last line with the progress of the run and the time left."""
    if not counts.steps:  # the Graph is being built
        return [_cut(metadata_text(counts.metadata), width)] if counts.metadata is not None else []
    lines = step_lines(list(counts.steps.values()), height=height - 1, width=width)
    last, left = f"{counts.done:,} of {count_text(counts.n_tasks, 'task')}", time_left_text(counts.left())
    return [*lines, _cut(f"{last}; {left}" if left else last, width)]


def step_lines(steps: list[Step], *, height: int, width: int) -> list[str]:
    """Return a line for each step, at most ``height``: failed steps first, then running, waiting and ended ones.

    Steps of one state are in the order of the file; of the ended steps the latest are shown. If there are more steps,
    the last line has their number.
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
        states = {"done": sum(step.ended for step in hidden), "running": sum(_rank(step) == 2 for step in hidden)}
        states["waiting"] = len(hidden) - sum(states.values())
        counts = ", ".join(f"{n} {state}" for state, n in states.items() if n)
        lines.append(_cut(f"… {count_text(len(hidden), 'more step')}: {counts}", width))
    return lines


def _rank(step: Step) -> int:
    """Return the place of a step's state in the order: failed, with retries or losses, running, waiting, ended."""
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
    if room < 4:  # errors are more important than the bar and the time
        name_width = max(8, min(name_width, width - len(count) - len(extras)))
        return _cut(f"{_cut(step.name, name_width):<{name_width}}{count}{extras}", width)
    room = min(40, room)
    full = room * step.done // step.n_tasks if step.n_tasks else room
    return f"{_cut(step.name, name_width):<{name_width}} {'━' * full}{'╌' * (room - full)}{count}{elapsed}{extras}"


def _cut(line: str, width: int) -> str:
    """Return the line, cut to the width with an ellipsis."""
    return line if len(line) <= width else f"{line[: width - 1]}…"


def event_line(event: TaskRetry | TaskFailed | ItemDropped | WorkerLoss | Note | OutputLine) -> str:
    """Return an event, or a line that a task printed, as one line."""
    message = shortened(printable(event.message))
    if isinstance(event, Note):
        return message
    task = printable(where(event.step, event.item))
    if isinstance(event, OutputLine):  # may be an empty line
        return f"{task}: {message}"
    return ": ".join(part for part in (event.kind, task, message) if part)


class LineLimit:
    """Select the lines printed by tasks that are shown: the first hundred of each step, then where the others are.

    Parameters
    ----------
    kept : file that has all lines; empty if there is none
    """

    def __init__(self, kept: str = "tasks.log in the run folder") -> None:
        self._kept = f"kept in {kept}" if kept else "not shown"
        self._n: dict[str, int] = {}

    def line(self, event: OutputLine, step: str) -> str | None:
        """Return what to show for a line, None for nothing."""
        n = self._n[step] = self._n.get(step, 0) + 1
        if n <= MOST_LINES:
            return event_line(event)
        return f"{step}: further lines are {self._kept}" if n == MOST_LINES + 1 else None

    def summary(self) -> list[str]:
        """Return a line for each step with lines that were not shown."""
        hidden = {step: n - MOST_LINES for step, n in self._n.items() if n > MOST_LINES}
        return [f"{step}: {count_text(n, 'more line is', 'more lines are')} {self._kept}" for step, n in hidden.items()]
