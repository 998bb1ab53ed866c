"""What of a pipeline is to be run, what is reused, and why: one plan for ``run`` and for its ``--dry-run``.

An output is reused if its key is that of the committed one, or the values that it is written from are equal, and its
files are as they were committed. A check is, if it has passed before on the same values. What neither of them needs is
not run. Steps with effects (``pure: false``) and values that are to be returned are always computed. Values of steps
come from a cache, from checkpoints, or from the items of a run that did not end, parts of outputs from such a run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.config.model import Config, Output
from pipeline.graph.graph import CONTEXT, Graph, Key
from pipeline.graph.nodes import GraphNode, constant, cull, function_of, is_constant
from pipeline.runs.append_keys import append_keys
from pipeline.runs.check_results import CheckResult
from pipeline.runs.resume.answers import FORCED, NEEDED, NEW, NOT_ASKED, Answer, depends_on
from pipeline.runs.resume.earlier import Earlier, EarlierOutput, earlier_outputs
from pipeline.runs.resume.plan import ResumePlan
from pipeline.runs.resume.reasons import OTHERWISE, differences
from pipeline.runs.resume.recorder import Recorder
from pipeline.runs.resume.records import StepRecord
from pipeline.runs.resume.step_keys import KeyOf, Keys, keys_of, values_key
from pipeline.runs.resume.task_plan import KeptValues, Stores, plan_values, with_parts
from pipeline.runs.resume.wishes import Wishes, with_dependents
from pipeline.worker.kept_tasks import load_task

__all__ = ["plan_run"]


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
            if values_key(self.records[output.writer], output, value_type, digests) == recorded:
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
