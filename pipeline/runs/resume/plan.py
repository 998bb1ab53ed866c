"""The plan of a run: what is run and what is reused; what is recorded of it when the run is over."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.config.model import Config, Output
from pipeline.graph.graph import Graph
from pipeline.outputs.manifest import Manifest
from pipeline.runs.check_results import CheckResult
from pipeline.runs.resume.answers import NOT_ASKED, Answer, by_step, summary
from pipeline.runs.resume.recorder import Recorder
from pipeline.runs.resume.records import StepRecord, records_from_json, records_to_json
from pipeline.runs.resume.step_keys import Keys, values_key
from pipeline.runs.resume.task_plan import KeptValues
from pipeline.runs.resume.wishes import with_dependents
from pipeline.units import count_text, names_text

__all__ = ["ResumePlan"]


@dataclass(frozen=True, eq=False)
class ResumePlan:
    """What is run and what is reused.

    Parameters
    ----------
    graph : what is to be run; it has the fingerprint of the whole Graph
    keys : of all steps, outputs and checks
    recorder : made the records; it knows whether files have changed since
    records : of all steps and writers of outputs
    steps, outputs : an answer for each step instance that has tasks, and for each output
    reused : name of an output that stays as it is -> its manifest
    checks : position of a check that is not evaluated -> its result, of an earlier run
    there : name of an output whose files are as they were committed -> its manifest
    left_out : positions of checks that were not asked for
    append : output that grows -> key of what this run adds
    values : the tasks that load or keep their values
    """

    graph: Graph
    keys: Keys
    recorder: Recorder
    records: Mapping[str, StepRecord]
    steps: Mapping[str, Answer]
    outputs: Mapping[str, Answer]
    reused: Mapping[str, Manifest]
    checks: Mapping[int, CheckResult]
    there: Mapping[str, Manifest] = field(default_factory=dict)
    left_out: frozenset[int] = frozenset()
    append: Mapping[str, str] = field(default_factory=dict)
    values: KeptValues = field(default_factory=KeptValues)

    @property
    def nothing(self) -> bool:
        """Whether no task is to be run."""
        return not self.graph.tasks

    @property
    def settled(self) -> dict[str, Answer]:
        """The outputs that stay as they are, whether they are there or not."""
        return {name: one for name, one in self.outputs.items() if one.state == "unchanged"}

    def asked(self, config: Config) -> tuple[Config, dict[int, CheckResult]]:
        """Return the Config with the checks that were asked for, and those results that are there, by position."""
        positions = [i for i in range(len(config.checks)) if i not in self.left_out]
        known = {new: self.checks[old] for new, old in enumerate(positions) if old in self.checks}
        return replace(config, checks=tuple(config.checks[i] for i in positions)), known

    def record(
        self, output: Output, config: Config, results: Sequence[CheckResult], incomplete: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return what the manifest of an output records about what determined it, when the run is over.

        Parameters
        ----------
        results : of all checks that were asked for, in their order
        incomplete : step instances whose values are not what they would be: what looked at them has not passed
        """
        names = [*config.only(output.input.instances).steps, output.writer]
        asked = [(key, config.checks[i]) for i, key in enumerate(self.keys.checks) if i not in self.left_out]
        checks = {
            one.key: found.message
            for (one, check), found in zip(asked, results, strict=True)
            if one.key and found.ok and not any(n in incomplete for r in check.references() for n in r.instances)
        }
        (instance,) = output.input.instances
        digests = self.values.digests_after(self.graph.value_types[instance].keys) if self.values.places else None
        values = values_key(self.records[output.writer], output, self.graph.value_types[instance], digests)
        steps = records_to_json(self.records[name] for name in names)
        return {"steps": steps, "checks": checks} | ({"values": values} if values else {})

    def recorded_anew(
        self, config: Config, results: Sequence[CheckResult], incomplete: Collection[str] = ()
    ) -> dict[str, Manifest]:
        """Return the manifests of outputs that stay as they are and of which something else is known now.

        That is which checks have passed on them, which changes were accepted, or that their values are equal.
        """
        by_sink = dict(zip(self.outputs, config.outputs, strict=True))
        found = {}
        for name, manifest in self.reused.items():
            if manifest.appended or NOT_ASKED in self.outputs[name].reasons:
                continue
            key, record = self.keys.outputs[name].key, self.record(by_sink[name], config, results, incomplete)
            known = manifest.record.get("checks", {})
            is_same = key == manifest.key and record["checks"].items() <= known.items()
            if not is_same or _accepted(record["steps"]) != _accepted(manifest.record.get("steps")):
                values = {"values": manifest.record["values"]} if "values" in manifest.record else {}
                found[name] = replace(manifest, key=key, record=record | values)
        return found

    def equal_after(self, manifests: Mapping[str, Manifest]) -> dict[str, Manifest]:
        """Return those outputs which the run has written as they were, with their manifests to be kept.

        Parameters
        ----------
        manifests : of what the run has written
        """
        found = {}
        for name, new in manifests.items():
            old = self.there.get(name)
            values = new.record.get("values")
            if old is not None and values and old.record.get("values") == values and not new.appended:
                found[name] = replace(old, key=new.key, record=new.record)
        return found

    def affected(self, config: Config) -> tuple[list[str], frozenset[str]]:
        """Return the files that have changed while they were read, and the step instances that depend on them."""
        running = set(self.graph.owners.values())
        files, steps = [], []
        for name, step in config.steps.items():
            found = self.recorder.changed_files(step) if name in running else []
            if found:
                files += found
                steps.append(name)
        return list(dict.fromkeys(files)), frozenset(with_dependents(config, steps))

    def incomplete(
        self, config: Config, changed: Sequence[str], affected: frozenset[str], dropped: Sequence[tuple[str, str, str]]
    ) -> dict[str, str]:
        """Return the step instances on which nothing that may be reused depends, each with the reason.

        Parameters
        ----------
        changed, affected : of :meth:`affected`
        dropped : step instance, item and cause of each item that was left out
        """
        found = dict.fromkeys(affected, f"{names_text(list(changed), 3)} changed while it was read")
        for step in dict.fromkeys(step for step, _, _ in dropped):
            n = sum(step == other for other, _, _ in dropped)
            why = f"{count_text(n, 'item')} of {step} had failed"
            found |= {name: why for name in with_dependents(config, [step]) if name not in found}
        return found

    def forget(self, instances: Collection[str]) -> None:
        """Remove what was kept of step instances in this run."""
        self.values.forget(key for key, owner in self.graph.owners.items() if owner in instances)

    @property
    def summary(self) -> str:
        """All of it in one line; empty if everything is new."""
        return summary(self.by_step, self.outputs, nothing=self.nothing)

    @property
    def by_step(self) -> dict[str, Answer]:
        """An answer for each step of the file that has tasks."""
        return by_step(self.steps, {name: policy.step for name, policy in self.graph.policies.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the answers in the types of JSON; of the checks the positions of those that are reused."""
        answers = {
            kind: [{"name": name, **one.to_dict()} for name, one in some.items()]
            for kind, some in (("steps", self.steps), ("outputs", self.outputs))
        }
        return {"summary": self.summary, "tasks": len(self.graph), **answers, "checks": sorted(self.checks)}


def _accepted(steps: Any) -> dict[str, str]:
    """Return the accepted components of recorded steps."""
    return {
        f"{name} {one}": component.accepted
        for name, record in records_from_json(steps).items()
        for one, component in record.components.items()
        if component.accepted
    }
