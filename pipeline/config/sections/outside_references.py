"""References to steps from outside of the steps, as outputs and checks hold them; and ``keep``, a list of such."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.expressions.references import ReferenceText
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.kinds import kind_of
from pipeline.config.matrix import BoundReference, Instances, expanded, following, referred
from pipeline.config.step_context import Context
from pipeline.config.step_syntax import reference as bare_reference
from pipeline.config.yaml_nodes import Node
from pipeline.errors import nearest

__all__ = ["always", "keep", "kind", "use"]


def use(text: ReferenceText, node: Node, path: str, context: Context) -> BoundReference:
    """What a reference means, said at ``node``.

    Raises
    ------
    Wrong : if no step has the name
    """
    if text.name not in context.known:
        if text.name in context.steps:  # the step has a fault of its own, told there
            return BoundReference(text, node.location, path, Instances(text.name, sure=False))
        hint = nearest(text.name, context.steps) or f"; steps: {', '.join(sorted(context.steps)[:10])}"
        raise ConfigFault(node.location, path, f"no step is named {text.name!r}{hint}")
    return BoundReference(text, node.location, path, context.known[text.name].copies)


def kind(text: ReferenceText, node: Node, path: str, context: Context) -> str:
    """The kind of what a reference means; empty where it is unknown."""
    known = context.known.get(text.name)
    return kind_of(text, known, node.location, path) if known is not None else ""


def keep(node: Node | None, context: Context) -> tuple[str, ...]:
    """The copies named in ``keep``."""
    kept: list[str] = []
    if node is None:
        return ()
    if not node.is_list:
        raise ConfigFault(node.location, "keep", f"got {node.said}; write a list of steps")
    for i, inner in enumerate(node.value):
        path = f"keep[{i}]"
        with context.faults.caught():
            text = bare_reference(inner, path)
            meant = use(text, inner, path, context)
            other = [p for p in text.picks if p.key is not None and p.key not in meant.of.keys]
            if text.part or (other and meant.of.sure):
                raise ConfigFault(
                    inner.location, path, f"got {inner.said}; keep names whole steps, or copies: tas[A1B]"
                )
            kept += _copies_of(meant)
    return tuple(dict.fromkeys(kept))


def _copies_of(meant: BoundReference) -> list[str]:
    keys = following({}, [meant], at=meant.location, path=meant.path)
    found: list[str] = []
    for labels in expanded("", keys, [meant], excluded=(), when=always, at=meant.location).names:
        matrix = {k: values[text] for (k, values), text in zip(keys.items(), labels, strict=True)}
        found += referred(meant, matrix).copies
    return found


def always(matrix: Mapping[str, Any]) -> bool:
    """The ``when`` of what has none."""
    return True
