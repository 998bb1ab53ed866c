"""What all steps of a file share while they are read, and the reader of one copy of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipeline.config.expressions.references import ReferenceText
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Params, Scope
from pipeline.config.kinds import StepInfo, kind_of
from pipeline.config.matrix import Absent, BoundReference, referred
from pipeline.config.model import Reference
from pipeline.config.sections.fields import Section
from pipeline.config.sections.validation import read
from pipeline.config.step_syntax import ParsedStep, ReferenceSite
from pipeline.config.yaml_nodes import Node

__all__ = ["Context", "InstanceReader"]

Keys = TypeVar("Keys", bound=Section)


@dataclass
class Context:
    """What all steps of a file share while they are resolved; ``known`` grows step by step."""

    params: Params
    steps: frozenset[str]
    faults: FaultCollector
    importable: frozenset[str]
    known: dict[str, StepInfo] = field(default_factory=dict)

    def scope(self, draft: ParsedStep | None, matrix: Mapping[str, Any]) -> Scope:
        """What ``${…}`` means in one copy."""

        def resolve(text: ReferenceText, node: Node, path: str) -> Reference:
            known = self.known[text.name]
            kind_of(text, known, node.location, path)
            return referred(BoundReference(text, node.location, path, known.copies), matrix)

        over = draft.over if draft is not None else frozenset()
        return Scope(self.params, matrix, over, self.steps, resolve)


class InstanceReader:
    """Reads the keys of one copy of a step."""

    def __init__(self, draft: ParsedStep, name: str, matrix: Mapping[str, Any], context: Context) -> None:
        self.draft, self.name, self.matrix, self.context = draft, name, matrix, context
        self.scope = context.scope(draft, matrix)
        self.node, self.path = draft.node, draft.path

    def keys(self, model: type[Keys]) -> Keys:
        """Return those keys of the step that a model has; all of them at their defaults if one is wrong."""
        return read(model, self.node, self.path, self.scope, self.context.faults, others=True) or model()

    def referred(self, found: ReferenceSite) -> Reference:
        """The copies that a reference means in this copy.

        Raises
        ------
        Wrong : if they do not exist
        """
        copies = self.context.known[found.reference.name].copies
        try:
            return referred(BoundReference(found.reference, found.location, found.path, copies), self.matrix)
        except Absent:  # only behind a fault: copies that lack something are not made
            raise ConfigFault(
                found.location,
                found.path,
                f"{str(found.reference)!r} does not exist in {self.name!r}",
                consequence=len(self.context.faults) > 0,
            ) from None
