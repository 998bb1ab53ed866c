"""What all steps of a file share while they are read, and the reader of one copy of one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.expressions.references import ReferenceText
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Params, Scope, fill
from pipeline.config.matrix import Absent, BoundReference, StepInfo, kind_of, referred
from pipeline.config.model import Reference
from pipeline.config.step_syntax import ParsedStep, ReferenceSite
from pipeline.config.yaml_nodes import Node

__all__ = ["Context", "InstanceReader", "boolean"]


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

    def get(self, key: str, check: Callable[[Any], Any], wanted: str, default: Any) -> Any:
        """The value of a key that ``check`` accepts, converted by it; ``check`` gives None for what it does not."""
        if key not in self.node.value:
            return default
        node = self.node.value[key]
        with self.context.faults.caught():
            got = check(fill(node, f"{self.path}.{key}", self.scope))
            if got is None:
                raise ConfigFault(node.location, f"{self.path}.{key}", f"got {node.said}; {wanted}")
            return got
        return default

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


def boolean(value: Any) -> bool | None:
    """A check for :meth:`InstanceReader.get`."""
    return value if isinstance(value, bool) else None
