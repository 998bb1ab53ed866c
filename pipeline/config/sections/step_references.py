"""References to steps from outside of the steps, as outputs and checks have them; and ``keep``, a list of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.expressions.references import ReferenceText
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.kinds import reference_kind
from pipeline.config.matrix import BoundReference, Instances, effective_matrix, expand, resolve_reference
from pipeline.config.step_context import Context
from pipeline.config.step_syntax import parse_bare_reference
from pipeline.config.yaml_nodes import Node
from pipeline.errors import Location, nearest

__all__ = ["bind_reference", "instances_of_references", "keep", "kind_of"]


def bind_reference(text: ReferenceText, node: Node, path: str, context: Context) -> BoundReference:
    """Return the reference that is written at ``node``, with the instances of the step that it names.

    Raises
    ------
    ConfigFault : if no step has the name
    """
    if text.name in context.resolved:
        return BoundReference(text, node.location, path, context.resolved[text.name].instances)
    hint = nearest(text.name, context.steps) or f"; steps: {', '.join(sorted(context.steps)[:10])}"
    raise ConfigFault(node.location, path, f"no step is named {text.name!r}{hint}")


def kind_of(text: ReferenceText, node: Node, path: str, context: Context) -> str:
    """Return the kind of value that a reference means; empty where it is unknown."""
    info = context.resolved.get(text.name)
    return reference_kind(text, info, node.location, path) if info is not None else ""


def instances_of_references(name: str, references: list[BoundReference], place: Location, path: str) -> Instances:
    """Return an instance for each combination of the matrix keys that the references have and do not pick."""
    keys = effective_matrix({}, references, at=place, path=path)
    return expand(name, keys, references, excluded=(), when=_always, at=place)


def _always(matrix: Mapping[str, Any]) -> bool:
    return True


def keep(node: Node | None, context: Context) -> tuple[str, ...]:
    """Return the names of the instances that ``keep`` lists."""
    kept: list[str] = []
    if node is None:
        return ()
    if not node.is_list:
        raise ConfigFault(node.location, "keep", f"got {node.shown}; write a list of steps")
    for i, inner in enumerate(node.value):
        path = f"keep[{i}]"
        with context.faults.caught():
            text = parse_bare_reference(inner, path)
            reference = bind_reference(text, inner, path, context)
            other = [pick for pick in text.picks if pick.key is not None and pick.key not in reference.instances.keys]
            if text.part or (other and reference.instances.valid):
                message = f"got {inner.shown}; keep names whole steps, or instances: tas[A1B]"
                raise ConfigFault(inner.location, path, message)
            instances = instances_of_references("", [reference], inner.location, path)
            for labels in instances.names:
                kept += resolve_reference(reference, instances.matrix(labels)).instances
    return tuple(dict.fromkeys(kept))
