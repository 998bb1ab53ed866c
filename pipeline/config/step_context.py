"""What the steps of a file share while they are resolved, and the reader of one instance of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pipeline.config.expressions.references import ReferenceText
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Params, Scope
from pipeline.config.kinds import StepInfo, reference_kind
from pipeline.config.matrix import AbsentInstance, BoundReference, resolve_reference
from pipeline.config.model import Reference
from pipeline.config.sections.fields import Section
from pipeline.config.sections.validation import read
from pipeline.config.step_syntax import ParsedStep, ReferenceSite
from pipeline.config.user_functions import Functions
from pipeline.config.yaml_nodes import Node

__all__ = ["Context", "InstanceReader"]

Keys = TypeVar("Keys", bound=Section)


@dataclass
class Context:
    """What all steps of a file share while they are resolved; one object lives as long as one file is being loaded.

    Parameters
    ----------
    steps : the names of all steps
    importable : the names of modules that calls may import
    matrix_keys : those that any step of the file has
    shipped : paths of the modules that are sent to the workers
    modules_known : False where ``modules`` has an error, so that other modules may be meant, too
    functions : what is known of the functions of modules
    limits : the names of the limits of the file; None where they have an error
    resolved : what others need to know of each step that is resolved already; it grows step by step
    """

    params: Params
    steps: frozenset[str]
    faults: FaultCollector
    importable: frozenset[str]
    matrix_keys: frozenset[str] = frozenset()
    shipped: tuple[str, ...] = ()
    modules_known: bool = True
    functions: Functions = field(default_factory=Functions)
    limits: frozenset[str] | None = frozenset()
    resolved: dict[str, StepInfo] = field(default_factory=dict)

    def scope(self, parsed: ParsedStep | None, matrix: Mapping[str, Any], *, is_sure: bool = True) -> Scope:
        """Return what ``${…}`` means in the instance with these matrix values, which are all of them if ``is_sure``."""

        def resolve(text: ReferenceText, node: Node, path: str) -> Reference:
            info = self.resolved[text.name]
            reference_kind(text, info, node.location, path)
            return resolve_reference(BoundReference(text, node.location, path, info.instances), matrix)

        over = parsed.over if parsed is not None else frozenset()
        unsure = frozenset() if is_sure else self.matrix_keys
        return Scope(self.params, matrix, over, self.steps, resolve, unsure=unsure)

    def bind(self, site: ReferenceSite) -> BoundReference:
        """Return a reference of a step with the instances of the step that it names."""
        return BoundReference(site.reference, site.location, site.path, self.resolved[site.reference.name].instances)


class InstanceReader:
    """Reads the keys of one instance of a step."""

    def __init__(self, parsed: ParsedStep, name: str, matrix: Mapping[str, Any], context: Context) -> None:
        self.parsed, self.name, self.matrix, self.context = parsed, name, matrix, context
        self.scope = context.scope(parsed, matrix, is_sure=context.resolved[parsed.name].instances.valid)
        self.node, self.path = parsed.node, parsed.path

    def keys(self, model: type[Keys]) -> Keys:
        """Return the keys of the step that a model has, all at their defaults if one has an error, which is noted."""
        return read(model, self.node, self.path, self.scope, self.context.faults, others=True) or model()

    def resolve(self, site: ReferenceSite) -> Reference:
        """Return what a reference means in this instance.

        Raises
        ------
        ConfigFault : if the instances that it means do not exist
        """
        try:
            return resolve_reference(self.context.bind(site), self.matrix)
        except AbsentInstance:  # only after another error: instances that lack an input are not made
            raise ConfigFault(
                site.location,
                site.path,
                f"{str(site.reference)!r} does not exist in {self.name!r}",
                consequence=len(self.context.faults) > 0,
            ) from None
