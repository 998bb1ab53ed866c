"""References from outside the steps: what outputs, checks and ``keep`` name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.context import Context
from pipeline.config.copies import Copies, Use, expanded, following, referred
from pipeline.config.drafts import reference as bare_reference
from pipeline.config.faults import Faults, Wrong
from pipeline.config.kinds import kind_of
from pipeline.config.source import Node
from pipeline.errors import nearest
from pipeline.expressions import ReferenceText

__all__ = ["always", "keep", "kind", "no_other_keys", "use"]


def use(text: ReferenceText, node: Node, path: str, context: Context) -> Use:
    """What a reference means, said at ``node``.

    Raises
    ------
    Wrong : if no step has the name
    """
    if text.name not in context.known:
        if text.name in context.steps:  # the step has a fault of its own, told there
            return Use(text, node.location, path, Copies(text.name, sure=False))
        hint = nearest(text.name, context.steps) or f"; steps: {', '.join(sorted(context.steps)[:10])}"
        raise Wrong(node.location, path, f"no step is named {text.name!r}{hint}")
    return Use(text, node.location, path, context.known[text.name].copies)


def kind(text: ReferenceText, node: Node, path: str, context: Context) -> str:
    """The kind of what a reference means; empty where it is unknown."""
    known = context.known.get(text.name)
    return kind_of(text, known, node.location, path) if known is not None else ""


def no_other_keys(node: Node, path: str, allowed: tuple[str, ...], faults: Faults) -> None:
    """Note each key of a map that is not among ``allowed``."""
    for key in node.value:
        if key not in allowed:
            said = f"unknown key; allowed: {', '.join(allowed)}{nearest(key, allowed)}"
            faults.add(node.keys[key], f"{path}.{key}", said)


def keep(node: Node | None, context: Context) -> tuple[str, ...]:
    """The copies named in ``keep``."""
    kept: list[str] = []
    if node is None:
        return ()
    if not node.is_list:
        raise Wrong(node.location, "keep", f"got {node.said}; write a list of steps")
    for i, inner in enumerate(node.value):
        path = f"keep[{i}]"
        with context.faults.caught():
            text = bare_reference(inner, path)
            meant = use(text, inner, path, context)
            other = [p for p in text.picks if p.key is not None and p.key not in meant.of.keys]
            if text.part or (other and meant.of.sure):
                raise Wrong(inner.location, path, f"got {inner.said}; keep names whole steps, or copies: tas[A1B]")
            kept += _copies_of(meant)
    return tuple(dict.fromkeys(kept))


def _copies_of(meant: Use) -> list[str]:
    keys = following({}, [meant], at=meant.location, path=meant.path)
    found: list[str] = []
    for labels in expanded("", keys, [meant], excluded=(), when=always, at=meant.location).names:
        matrix = {k: values[text] for (k, values), text in zip(keys.items(), labels, strict=True)}
        found += referred(meant, matrix).copies
    return found


def always(matrix: Mapping[str, Any]) -> bool:
    """The ``when`` of what has none."""
    return True
