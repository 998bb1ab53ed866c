"""What a run is asked to run again, besides what has changed: ``--force``, ``--only``, ``--from``, ``--accept``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.model import Config
from pipeline.errors import ConfigError, nearest
from pipeline.runs.resume.records import COMPONENTS, StepRecord, accept

__all__ = ["Wishes", "with_dependents"]


@dataclass(frozen=True)
class Wishes:
    """What is run, whatever has changed, and what is not.

    Parameters
    ----------
    force : names of steps that run again; ``True``: all
    only : names of steps; nothing but their outputs, and what these need, is run. Empty: everything is
    start : names of steps that run again with all that depends on them (``--from``)
    accept : ``COMPONENT:STEP``, changes that are taken as harmless
    verify : whether the files of outputs are compared by their hashes, too
    """

    force: bool | tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    verify: bool = False

    @classmethod
    def of(
        cls,
        *,
        force: bool | str | Sequence[str] = False,
        only: str | Sequence[str] = (),
        from_: str | Sequence[str] = (),
        accept: str | Sequence[str] = (),
        verify: bool = False,
    ) -> Wishes:
        """Return the wishes that the arguments of a run mean; one name may be given as it is."""
        forced = force if isinstance(force, bool) else _names(force)
        return cls(forced, _names(only), _names(from_), _names(accept), verify)

    def require_steps(self, config: Config) -> None:
        """Check that the wishes name steps of the pipeline.

        Raises
        ------
        ConfigError : naming the first that is none, with the nearest name
        """
        names = dict.fromkeys(step.step for step in config.steps.values())
        plain = next((text for text in self.accept if ":" not in text), None)
        if plain is not None:
            raise ConfigError(f"accept: got {plain!r}; write what is accepted of which step, as code:{plain}")
        for option, step in self._steps():
            if step not in names:
                raise ConfigError(f"{option}: there is no step {step!r}{nearest(step, names)}")
        for text in self.accept:
            component = text.partition(":")[0]
            if component not in COMPONENTS:
                hint = nearest(component, COMPONENTS)
                raise ConfigError(
                    f"--accept {text}: write what has changed and the step, code:STEP; it may be one of "
                    f"{' '.join(COMPONENTS)}{hint}"
                )

    def _steps(self) -> Iterator[tuple[str, str]]:
        forced = self.force if isinstance(self.force, tuple) else ()
        for option, steps in (("--force", forced), ("--only", self.only), ("--from", self.start)):
            yield from ((f"{option} {step}", step) for step in steps)
        for text in self.accept:
            yield f"--accept {text}", text.partition(":")[2]

    def forced(self, config: Config) -> frozenset[str]:
        """Return the step instances whose values are computed, whatever was kept."""
        if self.force is True:
            return frozenset(config.steps)
        names = self.force or ()
        found = {name for name, step in config.steps.items() if step.step in names}
        return frozenset(found | with_dependents(config, _instances(config, self.start)))

    def accepted(self, records: Mapping[str, StepRecord], old: Mapping[str, StepRecord]) -> dict[str, StepRecord]:
        """Return the records of a pipeline, with the changes that are taken as harmless, now or in an earlier run.

        Parameters
        ----------
        old : the records of earlier runs
        """
        wanted: dict[str, list[str]] = {}
        for text in self.accept:
            component, _, step = text.partition(":")
            wanted.setdefault(step, []).append(component)
        return {
            name: accept(record, old.get(name), wanted.get(name.partition("[")[0], ()))
            for name, record in records.items()
        }

    def limited_to(self, config: Config) -> frozenset[str] | None:
        """Return the step instances that ``only`` names; None: there is no such limit."""
        return frozenset(_instances(config, self.only)) if self.only else None


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _instances(config: Config, names: Sequence[str]) -> list[str]:
    return [name for name, step in config.steps.items() if step.step in names]


def with_dependents(config: Config, instances: Iterable[str]) -> set[str]:
    """Return step instances, and all that depend on them."""
    found = set(instances)
    for step in config.steps.values() if found else ():  # each after all that it refers to
        if any(name in found for reference in step.references() for name in reference.instances):
            found.add(step.name)
    return found
