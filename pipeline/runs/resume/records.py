"""The record of a step: all that determines its result, by components, each with a digest and short readable values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.graph.canonical_encoding import combined

__all__ = ["COMPONENTS", "Component", "StepRecord", "accept", "records_from_json", "records_to_json"]

# 1: components (digest, shown, unknown, accepted), steps (components by position, upstream, notes).
_FORMAT = 1
COMPONENTS = ("op", "parameters", "seed", "code", "versions", "inputs")
"""The names of the components, in the order in which differences are listed."""

_OF_TASKS = ("op", "seed", "code", "versions")
"""Those that all tasks of a step have in common; parameters and inputs count for the tasks that have them."""


@dataclass(frozen=True)
class Component:
    """One part of what determines a result.

    Parameters
    ----------
    digest : equal for equal components; empty: unknown
    shown : name -> short text; of ``code`` a module -> its functions with their digests; of ``inputs`` a file ->
        ``[bytes, mtime in ns, digest]``
    unknown : why it is unknown
    accepted : the digest of an earlier component that a user has accepted this one for
    """

    digest: str
    shown: Mapping[str, Any] = field(default_factory=dict)
    unknown: str = ""
    accepted: str = ""

    @property
    def key(self) -> str:
        """The digest that counts; empty if it is unknown."""
        return self.accepted or self.digest


_NOTHING = Component("nothing")


@dataclass(frozen=True)
class StepRecord:
    """All that determines the result of one instance of a step, but for the values of its inputs.

    Parameters
    ----------
    step : name of the instance; of the writer tasks of an output ``write NAME``
    components : by the names of :data:`COMPONENTS`; one that is not there is empty
    upstream : the instances that it reads
    notes : what was not looked at: large files, imports that can't be followed
    files : path, URL or text of an argument, as its tasks have it -> the digest of its content; empty: unknown. Not
        kept in JSON
    """

    step: str
    components: Mapping[str, Component]
    upstream: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict, compare=False)

    def component(self, name: str) -> Component:
        """Return a component; one that is not there as one of nothing."""
        return self.components.get(name, _NOTHING)

    @property
    def digest(self) -> str:
        """The digest of all components; empty if one of them is unknown."""
        return self._of(COMPONENTS)

    @property
    def task_digest(self) -> str:
        """The digest of what all tasks of the step have in common: all but parameters and inputs; empty: unknown."""
        return self._of(_OF_TASKS)

    def _of(self, names: Iterable[str]) -> str:
        keys = [self.component(name).key for name in names]
        return combined([str(_FORMAT), *keys])[:32] if all(keys) else ""

    @property
    def unknown(self) -> tuple[str, ...]:
        """Why the result can't be recognised, a sentence for each unknown component; empty: it can."""
        found = (self.component(name) for name in COMPONENTS)
        return tuple(one.unknown or "it is unknown" for one in found if not one.key)


def accept(new: StepRecord, old: StepRecord | None, components: Iterable[str] = ()) -> StepRecord:
    """Return the new record with some of its components taken as harmless changes of the old ones.

    Those that were accepted before stay so while they do not change again.
    """
    if old is None:
        return new
    changed = {}
    for name in COMPONENTS:
        before, now = old.component(name), new.component(name)
        if not before.key or not now.digest or now.digest == before.key:
            continue
        if name in components or (before.accepted and before.digest == now.digest):
            changed[name] = replace(now, accepted=before.key)
    return replace(new, components={**new.components, **changed}) if changed else new


# ---------------------------------------------------------------------------------------------------------------------
# JSON
# ---------------------------------------------------------------------------------------------------------------------


def records_to_json(records: Iterable[StepRecord]) -> dict[str, Any]:
    """Return records in the types of JSON; components that several steps have are there once."""
    made: list[dict[str, Any]] = []
    numbers: dict[int, int] = {}  # by identity: instances of a step share them
    alike: dict[str, int] = {}
    kept: list[Component] = []  # so that no identity is used again

    def number(one: Component) -> int:
        if id(one) not in numbers:
            fields = {"digest": one.digest, "shown": one.shown, "unknown": one.unknown, "accepted": one.accepted}
            about = {key: value for key, value in fields.items() if value}
            text = repr(about)
            if text not in alike:
                alike[text] = len(made)
                made.append(about)
            numbers[id(one)] = alike[text]
            kept.append(one)
        return numbers[id(one)]

    steps = {}
    for record in records:
        about: dict[str, Any] = {name: number(one) for name, one in record.components.items()}
        about |= {"upstream": list(record.upstream)} if record.upstream else {}
        steps[record.step] = about | ({"notes": list(record.notes)} if record.notes else {})
    return {"version": _FORMAT, "components": made, "steps": steps}


def records_from_json(given: Any) -> dict[str, StepRecord]:
    """Return the records by step; none for what is not as :func:`records_to_json` makes it, or of another version."""
    try:
        if given["version"] != _FORMAT:
            return {}
        components = [
            Component(
                str(one.get("digest", "")),
                dict(one.get("shown", {})),
                str(one.get("unknown", "")),
                str(one.get("accepted", "")),
            )
            for one in given["components"]
        ]
        return {
            str(step): StepRecord(
                str(step),
                {name: components[about[name]] for name in COMPONENTS if name in about},
                tuple(map(str, about.get("upstream", ()))),
                tuple(map(str, about.get("notes", ()))),
            )
            for step, about in given["steps"].items()
        }
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return {}
