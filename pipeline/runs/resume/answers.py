"""Whether each step, output and check is run or reused, and why; and all of it in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.units import count_text

__all__ = ["FORCED", "NEEDED", "NEW", "NOT_ASKED", "Answer", "by_step", "summary"]

State = Literal["unchanged", "run", "depends"]

NEW = "new"
"""Reason to write an output that is not there, or to run a step that was not there."""
FORCED = "forced"
NEEDED = "its result is needed, and was not kept"
"""Reason to run a step of which nothing has changed."""
NOT_ASKED = "--only names other steps"
"""Why an output stays as it is, whatever has changed."""
_SHOWN = 3  # reasons and names in one line


@dataclass(frozen=True)
class Answer:
    """Whether a step instance, an output or a check is reused.

    Parameters
    ----------
    state : ``unchanged``: it is reused; ``run``; ``depends``: the run finds out whether its result can be reused, when
        the steps that it reads are done
    reasons : why it is run, or on which steps it depends; of a step that is unchanged and runs nevertheless, that its
        result is needed
    reused, total : number of its values (items, chunks, partitions), or of its written parts, that are reused, and of
        all; 0: not counted
    """

    state: State
    reasons: tuple[str, ...] = ()
    reused: int = 0
    total: int = 0

    def with_counts(self, reused: int, total: int) -> Answer:
        """Return it with these numbers, where something is reused."""
        return replace(self, reused=reused, total=total) if reused else self

    def to_dict(self) -> dict[str, object]:
        """Return it in the types of JSON."""
        counts = {"reused": self.reused, "total": self.total} if self.total else {}
        return {"state": self.state, "reasons": list(self.reasons), **counts}


def by_step(instances: Mapping[str, Answer], steps: Mapping[str, str]) -> dict[str, Answer]:
    """Return an answer for each step of the file: that of its first instance that runs, else that depends, if one does.

    Parameters
    ----------
    steps : instance -> step of the file
    """
    rank = {"unchanged": 0, "depends": 1, "run": 2}
    found: dict[str, Answer] = {}
    totals: dict[str, list[Answer]] = {}
    for instance, one in instances.items():
        step = steps[instance]
        totals.setdefault(step, []).append(one)
        if step not in found or rank[one.state] > rank[found[step].state]:
            found[step] = one
    return {
        step: Answer(one.state, one.reasons, sum(a.reused for a in totals[step]), sum(a.total for a in totals[step]))
        for step, one in found.items()
    }


def summary(steps: Mapping[str, Answer], outputs: Mapping[str, Answer], *, nothing: bool) -> str:
    """Return one line: how many steps are unchanged, what has changed, and which run again; empty if all is new.

    Parameters
    ----------
    steps : of the file
    nothing : whether no task is run
    """
    running = [name for name, one in steps.items() if one.state == "run"]
    open_ = [name for name, one in steps.items() if one.state == "depends"]
    counted = f"{len(steps) - len(running) - len(open_)} of {count_text(len(steps), 'step')} unchanged"
    if nothing:
        return f"{counted}: nothing to do"
    partial = [f"{one.reused:,} of {one.total:,} results of {name} are reused" for name, one in steps.items()
               if one.state == "run" and one.reused]  # fmt: skip
    parts = [f"{one.reused:,} of {one.total:,} parts of {name}" for name, one in outputs.items()
             if one.state != "unchanged" and one.reused]  # fmt: skip
    partial += [f"{_few(parts)} are written already"] if parts else []
    if len(running) + len(open_) == len(steps) and all(one.reasons == (NEW,) for one in outputs.values()):
        return f"goes on from an earlier run: {'; '.join(partial[:_SHOWN])}" if partial else ""
    texts = [counted]
    if running:
        verb = "runs" if len(running) == 1 else "run"
        texts.append(f"{_why(steps, outputs)}: {_few(running)} {verb} again")
    elif not open_:
        texts.append(f"{_why(steps, outputs)}: written from what is kept" if _written(outputs) else "checks")
    if open_:
        texts.append(f"{_few(open_)} if {'their' if len(open_) > 1 else 'its'} inputs come out differently")
    return "; ".join([*texts, *partial[:_SHOWN]])


def _written(outputs: Mapping[str, Answer]) -> bool:
    return any(one.state != "unchanged" for one in outputs.values())


def _why(steps: Mapping[str, Answer], outputs: Mapping[str, Answer]) -> str:
    own = {name: one.reasons for name, one in steps.items() if one.state == "run" and one.reasons != (NEEDED,)}
    texts = [f"{name}: {', '.join(reasons)}" for name, reasons in own.items()]
    if own and len(set(own.values())) == 1:  # one reason for all
        texts = [", ".join(next(iter(own.values())))] if len(own) > 1 else texts
    if not texts:
        texts = [f"{name}: {one.reasons[0]}" for name, one in outputs.items() if one.state == "run" and one.reasons]
    texts = texts or ["results are needed that were not kept"]
    return "; ".join(texts[:_SHOWN]) + _more(texts)


def _few(names: Sequence[str]) -> str:
    """Return some names as text.

    >>> _few(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    return ", ".join(names[:_SHOWN]) + _more(names)


def _more(names: Sequence[object]) -> str:
    return f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""


def depends_on(names: Iterable[str]) -> Answer:
    """Return the answer for what depends on steps that run."""
    return Answer("depends", tuple(f"depends on {name}" for name in names))
