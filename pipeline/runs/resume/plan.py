"""What of a pipeline is to be run, what is reused, and why: one plan for ``run`` and for its ``--dry-run``.

An output is reused if its key is that of the committed one, or the values that it is written from are equal, and its
files are as they were committed. A check is, if it has passed before on the same values. What neither of them needs is
not run. Steps with effects (``pure: false``) and values that are to be returned are always computed. Values of steps
come from a cache, from checkpoints, or from the items of a run that did not end, parts of outputs from such a run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dask.base import tokenize

from pipeline.config.model import Config, Output
from pipeline.graph.canonical_encoding import combined
from pipeline.graph.graph import CONTEXT, Graph, Key
from pipeline.graph.nodes import GraphNode, constant, cull, function_of, is_constant
from pipeline.graph.value_types import ArrayType, FrameType, ItemsType, PartsType, ValueType
from pipeline.outputs.manifest import Manifest
from pipeline.runs.append_keys import append_keys
from pipeline.runs.check_results import CheckResult
from pipeline.runs.resume.answers import FORCED, NEEDED, NEW, NOT_ASKED, Answer, by_step, depends_on, summary
from pipeline.runs.resume.earlier import Earlier, EarlierOutput, earlier_outputs
from pipeline.runs.resume.reasons import OTHERWISE, differences
from pipeline.runs.resume.recorder import Recorder
from pipeline.runs.resume.records import StepRecord, records_from_json, records_to_json
from pipeline.runs.resume.step_keys import KeyOf, Keys, keys_of
from pipeline.runs.resume.task_plan import KeptValues, Stores, plan_values, with_parts
from pipeline.runs.resume.wishes import Wishes, with_dependents
from pipeline.units import count_text, names_text
from pipeline.worker.kept_tasks import load_task

__all__ = ["ResumePlan", "plan_run"]


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
        values = _values_key(self.records[output.writer], output, self.graph.value_types[instance], digests)
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


def plan_run(
    config: Config,
    graph: Graph,
    root: Path,
    wishes: Wishes | None = None,
    stores: Stores | None = None,
    *,
    settled: Mapping[str, Answer] | None = None,
) -> ResumePlan:
    """Return what a run of a pipeline has to do; nothing is written.

    Parameters
    ----------
    root : the output root
    stores : where values are kept; None: nowhere
    settled : outputs that stay as they are, whatever is found now, by an earlier plan of this run
    """
    wishes, stores = wishes or Wishes(), stores or Stores()
    recorder = Recorder(config, graph)
    earlier = earlier_outputs(graph.sinks, root, hashes=wishes.verify)
    records = wishes.accepted(recorder.all(), earlier.records)
    by_sink = dict(zip((sink.name for sink in graph.sinks), config.outputs, strict=True))
    keys = keys_of(config, records, by_sink, map(recorder.of_check, range(len(config.checks))))
    forced = wishes.forced(config)
    made = _Plan(config, graph, keys, records, earlier, forced, frozenset(with_dependents(config, forced)), wishes)
    appended = append_keys(config, graph)
    outputs = {
        name: (settled or {}).get(name) or made.output(name, output, appended.get(name))
        for name, output in by_sink.items()
    }
    checks, left_out = made.passed_before(), made.unasked_checks()
    part = made.part(outputs, {*checks, *left_out})
    values = plan_values(config, part, records, stores, again=made.again, forced=forced)
    equal = made.equal_outputs(outputs, by_sink, values)
    if equal:
        outputs |= dict.fromkeys(equal, Answer("unchanged", ("its values are equal",)))
        part = made.part(outputs, {*checks, *left_out})
    if stores.parts is not None:
        known = {
            name: (output.writer, keys.outputs[name].key)
            for name, output in by_sink.items()
            if keys.outputs[name].key and name not in appended and not made.may_lack_items(output)
        }
        anew = [name for name, output in by_sink.items() if not made.again.isdisjoint(output.input.instances)]
        how: dict[str, Any] = {"structure": graph.structure, "pipeline": config.name, "forced": anew}
        values = with_parts(values, part, known, stores.parts, **how)
        outputs = {name: one.with_counts(*values.reusable_parts(name)) for name, one in outputs.items()}
    todo = values.cut(part)
    steps = made.steps(todo, part, values)
    return ResumePlan(
        graph=todo,
        keys=keys,
        recorder=recorder,
        records=records,
        steps=steps,
        outputs=made.deciding(outputs, by_sink, steps),
        reused={
            name: there
            for name, one in outputs.items()
            if one.state == "unchanged" and (there := earlier.outputs[name].manifest) is not None
        },
        checks=checks,
        there={name: one.manifest for name, one in earlier.outputs.items() if one.manifest and not one.problem},
        left_out=left_out,
        append=appended,
        values=values,
    )


def _owners(graph: Graph, counts: Callable[[Key, GraphNode], bool]) -> set[str]:
    """Return the step instances that own a task which counts; of an instance that does, no more tasks are looked at."""
    found: set[str] = set()
    for key, owner in graph.owners.items():
        if owner not in found and counts(key, graph.tasks[key]):
            found.add(owner)
    return found


def _accepted(steps: Any) -> dict[str, str]:
    """Return the accepted components of recorded steps."""
    return {
        f"{name} {one}": component.accepted
        for name, record in records_from_json(steps).items()
        for one, component in record.components.items()
        if component.accepted
    }


def _values_key(writer: StepRecord, output: Output, value_type: ValueType, digests: Sequence[str] | None) -> str:
    if digests is None or not writer.digest:
        return ""
    about = _labels(value_type)
    return combined([writer.digest, output.name, about, *digests]) if about else ""


def _labels(value_type: ValueType) -> str:
    """Return a hash of what of a value is known before the run: dims, labels, attributes, columns, keys of items.

    Empty: it has none that is the same in every process.
    """
    about: Any = value_type.kind
    if isinstance(value_type, ArrayType):
        about = value_type.dims, str(value_type.dtype), value_type.template, sorted(value_type.labels)
    elif isinstance(value_type, FrameType):
        about = str(value_type.schema)
    elif isinstance(value_type, ItemsType):
        about = value_type.names
    elif isinstance(value_type, PartsType):
        return _labels(value_type.whole) if value_type.whole is not None else ""
    try:
        return str(tokenize(value_type.kind, about, ensure_deterministic=True))
    except Exception:  # noqa: BLE001 - dask raises an error of its own kind, pickling labels any
        return ""


@dataclass(frozen=True)
class _Plan:
    """What the answers are made from.

    Parameters
    ----------
    forced : the step instances that were asked for
    again : these, and all that depend on them
    """

    config: Config
    graph: Graph
    keys: Keys
    records: Mapping[str, StepRecord]
    earlier: Earlier
    forced: frozenset[str]
    again: frozenset[str]
    wishes: Wishes

    # -- outputs and checks -------------------------------------------------------------------------------------------

    def output(self, name: str, output: Output, append: str | None) -> Answer:
        """Return whether an output is written again, and why."""
        there, own, instances = self.earlier.outputs[name], self.keys.outputs[name], output.input.instances
        asked = self.wishes.limited_to(self.config)
        if asked is not None and not asked.issuperset(instances):
            return Answer("unchanged", (NOT_ASKED,))
        if append is not None:
            return self._grown(there, own, append, instances)
        if any(instance in self.again for instance in instances):
            return Answer("run", (FORCED,))
        if there.problem:
            return Answer("run", (there.problem,))
        if own.unknown:
            return Answer("run", (own.unknown,))
        assert there.manifest is not None
        if own.key == there.manifest.key:
            return Answer("unchanged")
        if not there.manifest.key:
            why = there.manifest.record.get("incomplete")
            return Answer("run", (str(why or "it is not recorded what the committed one was made of"),))
        changed = [f"{step} has changed" for step in self.config.only(instances).steps if self._changes(step)]
        return Answer("run", tuple(changed or self._changes(output.writer)) or (OTHERWISE,))

    def _grown(self, there: EarlierOutput, own: KeyOf, key: str, instances: tuple[str, ...]) -> Answer:
        """Return whether rows are added to an output that grows. What was added before is never added again."""
        added = there.manifest.appended if there.manifest is not None else ()
        if own.unknown or any(instance in self.again for instance in instances):
            return Answer("run", (own.unknown or FORCED,))
        if any(each.key == key for each in added) and not there.problem:
            return Answer("unchanged")
        return Answer("run", (there.problem or "these rows were not added yet",))

    def equal_outputs(
        self, outputs: Mapping[str, Answer], by_sink: Mapping[str, Output], values: KeptValues
    ) -> list[str]:
        """Return the outputs of which something has changed, but not the values that they are written from."""
        found = []
        for name, one in outputs.items():
            there, output = self.earlier.outputs[name], by_sink[name]
            recorded = there.manifest.record.get("values") if there.manifest is not None else None
            if one.state != "run" or there.problem or not recorded or name in self._appending:
                continue
            (instance,) = output.input.instances
            if instance in self.again:
                continue
            value_type = self.graph.value_types[instance]
            digests = [known for key in value_type.keys if (known := values.digests.get(key)) is not None]
            if len(digests) < len(value_type.keys):
                continue
            if _values_key(self.records[output.writer], output, value_type, digests) == recorded:
                found.append(name)
        return found

    def may_lack_items(self, output: Output) -> bool:
        """Return whether items may be left out of what an output is made of, so that equal parts may differ."""
        return any(self.graph.policies[name].drop for name in self.config.only(output.input.instances).steps)

    @property
    def _appending(self) -> frozenset[str]:
        return frozenset(sink.name for sink in self.graph.sinks if sink.append)

    def passed_before(self) -> dict[int, CheckResult]:
        """Return the checks that have passed before on the same values, by position."""
        found = {}
        for i, (check, own) in enumerate(zip(self.config.checks, self.keys.checks, strict=True)):
            names = [name for reference in check.references() for name in reference.instances]
            if own.key in self.earlier.checks and not any(name in self.again for name in names):
                found[i] = CheckResult(check.text, True, self.earlier.checks[own.key], check.location)
        return found

    def unasked_checks(self) -> frozenset[int]:
        """Return the positions of checks that look at other steps than those that were asked for."""
        asked = self.wishes.limited_to(self.config)
        if asked is None:
            return frozenset()
        return frozenset(
            i
            for i, check in enumerate(self.config.checks)
            if not asked.issuperset(name for reference in check.references() for name in reference.instances)
        )

    # -- what is to be run --------------------------------------------------------------------------------------------

    def part(self, outputs: Mapping[str, Answer], passed: Collection[int]) -> Graph:
        """Return the Graph cut down to what is to be run; ``passed``: the checks that are not evaluated."""
        graph, config = self.graph, self.config
        asked = self.wishes.limited_to(config)
        sinks = tuple(sink for sink in graph.sinks if outputs[sink.name].state == "run")
        checked = {name for check in config.checks for r in check.references() for name in r.instances}
        open_checks = [check for i, check in enumerate(config.checks) if i not in passed]
        needed = {name for check in open_checks for r in check.references() for name in r.instances}
        kept = [name for name in graph.kept if name in needed or name in config.keep or name not in checked]
        effects = [name for name, policy in graph.policies.items() if not policy.pure]
        if asked is not None:
            written = {name for output in config.outputs for name in output.input.instances}
            kept = [name for name in kept if name in asked or name in needed or name in config.keep]
            kept += [name for name in config.steps if name in asked and name not in written and name not in kept]
            effects = [name for name in effects if name in asked]
        wanted: dict[Key, None] = {key: None for sink in sinks for key in sink.records}
        for name in dict.fromkeys((*kept, *effects)):
            wanted |= {key: None for key in graph.value_types[name].keys if key in graph.tasks}
        if len(sinks) == len(graph.sinks) and tuple(kept) == graph.kept and wanted.keys() == set(graph.wanted):
            return graph
        tasks = cull({**graph.tasks, CONTEXT: constant(CONTEXT, None)}, wanted)
        tasks.pop(CONTEXT, None)
        return replace(
            graph,
            tasks=tasks,
            wanted=tuple(wanted),
            owners={key: graph.owners[key] for key in tasks},
            sinks=sinks,
            kept=tuple(kept),
            part_of=graph.fingerprint,
        )

    # -- steps --------------------------------------------------------------------------------------------------------

    def _changes(self, name: str) -> list[str]:
        """Return what has changed of a step or writer since the outputs were written; nothing where no record is."""
        if not self.earlier.records:
            return []
        return differences(self.earlier.records.get(name), self.records[name])

    def steps(self, todo: Graph, part: Graph, values: KeptValues) -> dict[str, Answer]:
        """Return an answer for each step instance that has tasks.

        Parameters
        ----------
        todo, part : what is run, and what would be without kept values
        """
        has_tasks = _owners(self.graph, lambda key, node: not is_constant(node))
        running = _owners(
            todo,
            lambda key, node: (
                not is_constant(node) and function_of(node) is not load_task and key not in values.undecided
            ),
        )
        reusable = values.reusable_by_step(part)
        undecided = {todo.owners[key] for key in values.undecided if key in todo.tasks}
        answers: dict[str, Answer] = {}
        passed_on: dict[str, list[str]] = {}  # what has changed of steps without tasks, such as lists of files
        for name, step in self.config.steps.items():
            needed = [instance for reference in step.references() for instance in reference.instances]
            own = self._changes(name)
            own += [text for instance in needed for text in passed_on.get(instance, ())]
            if name not in has_tasks:
                passed_on[name] = own
                continue
            total = sum(key in part.tasks for key in self.graph.value_types[name].keys) if reusable[name] else 0
            changes = (FORCED,) if name in self.forced else tuple(dict.fromkeys(own))
            above = [one for one in needed if one in answers and answers[one].state != "unchanged"]
            if name in undecided and not changes and above:
                answers[name] = replace(depends_on(dict.fromkeys(above)), reused=reusable[name], total=total)
            elif name in running or name in undecided:
                answers[name] = Answer(
                    "run", changes or (NEEDED if self.earlier.records else NEW,), reusable[name], total
                )
            else:
                answers[name] = Answer("unchanged", (), reusable[name], total)
        return answers

    def deciding(
        self, outputs: Mapping[str, Answer], by_sink: Mapping[str, Output], steps: Mapping[str, Answer]
    ) -> dict[str, Answer]:
        """Return the answers for the outputs; one that is written from a value that depends on others depends, too."""
        found = {}
        for name, one in outputs.items():
            there = self.earlier.outputs[name]
            (instance,) = by_sink[name].input.instances
            is_open = one.state == "run" and not there.problem and instance not in self.again
            depends = is_open and steps.get(instance, one).state == "depends"
            found[name] = Answer("depends", (f"depends on {instance}",)) if depends else one
        return found
