"""runs.history.result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pipeline.runs.history.read import RunFolder
from pipeline.trace.statistics import Interval

if TYPE_CHECKING:
    pass


NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Change:
    """One thing that is not the same.

    Parameters
    ----------
    path : what: the dotted path of a key, a file, a package
    kind : ``unsure`` of an input that may be another one: only a part of it was hashed, or nothing at all
    old, new : None on the side where it is not there
    """

    path: str
    kind: Literal["changed", "added", "removed", "unsure"]
    old: Any = None
    new: Any = None
    partial: bool = False


@dataclass(frozen=True)
class Difference:
    """All that has changed from run folder ``a`` to run folder ``b``.

    Parameters
    ----------
    changes : of ``config code versions machine inputs graph``: what is not the same; empty: all is
    unknown : of these: why nothing is known about it
    times : what both timed
    judged : whether ``b`` is faster, or why that can't be said
    notes : what could not be read
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
        """Whether everything is known, and the same; times apart."""
        return not self.unknown and not any(self.changes.values())

    def to_dict(self) -> dict[str, Any]:
        """In the types that JSON has; seconds."""
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
    """Seconds in the tasks of a step, over the rounds; None where it has none.

    ``differs``: both were repeated, and the intervals lie apart.
    """

    step: str
    old: Interval | None
    new: Interval | None
    differs: bool


@dataclass(frozen=True)
class CaseTimes:
    """What one back end with a number of workers took in both.

    Parameters
    ----------
    old, new : elapsed seconds
    speedup : how many times as fast the new one is, the rounds of the two having nothing to do with each other; None
        where one of them took no time
    differs : both were repeated, and the intervals lie apart
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
    """The verdict in words, and each reason for which it is withheld, for all or for one back end."""

    text: str = ""
    withheld: tuple[str, ...] = ()
