"""The values that a comparison of two run folders returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipeline.runs.history.read import RunFolder
from pipeline.trace.statistics import Interval

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Change:
    """One thing that differs.

    Parameters
    ----------
    path : dotted path of a key, or name of a file or package
    kind : ``unsure`` for an input that may have changed: only a part of it was hashed, or nothing
    old, new : None on the side that lacks it
    partial : only a part of the input was hashed
    """

    path: str
    kind: Literal["changed", "added", "removed", "unsure"]
    old: Any = None
    new: Any = None
    partial: bool = False


@dataclass(frozen=True)
class Difference:
    """Everything that changed from run folder ``a`` to run folder ``b``.

    Parameters
    ----------
    changes : ``config code versions machine inputs graph`` -> what differs; empty if nothing does
    unknown : the same keys -> why nothing is known
    times : of the back ends that ran in both
    judged : whether ``b`` is faster, or why that is unknown
    notes : files that could not be read
    """

    a: RunFolder
    b: RunFolder
    changes: Mapping[str, tuple[Change, ...]]
    unknown: Mapping[str, str] = field(default_factory=dict)
    times: tuple[CaseTimes, ...] = ()
    judged: Judged = field(default_factory=lambda: Judged())
    notes: tuple[str, ...] = ()

    @property
    def nothing_changed(self) -> bool:
        """Whether everything but the times is known and the same."""
        return not self.unknown and not any(self.changes.values())

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values; times in seconds."""
        return {
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "changes": {about: [asdict(change) for change in found] for about, found in self.changes.items()},
            "unknown": dict(self.unknown),
            "times": [asdict(times) for times in self.times],
            "verdict": self.judged.text,
            "withheld": list(self.judged.withheld),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class StepTimes:
    """Seconds in the tasks of a step over the rounds; None where the step has no tasks.

    ``differs`` : both were repeated, and their intervals do not overlap
    """

    step: str
    old: Interval | None
    new: Interval | None
    differs: bool


@dataclass(frozen=True)
class CaseTimes:
    """The times of one back end with a number of workers in both run folders.

    Parameters
    ----------
    old, new : elapsed seconds
    speedup : old over new, from unpaired rounds; None if one of them took no time
    differs : both were repeated, and their intervals do not overlap
    steps : in the order of the first trace
    """

    label: str
    backend: str
    workers: int
    old: Interval
    new: Interval
    speedup: Interval | None
    differs: bool
    steps: tuple[StepTimes, ...] = ()


@dataclass(frozen=True)
class Judged:
    """The verdict as text, and each reason for withholding it, for all back ends or for one."""

    text: str = ""
    withheld: tuple[str, ...] = ()
