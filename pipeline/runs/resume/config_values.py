"""Values of a Config: their digests, and short texts of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.config.expressions.expression import Expression
from pipeline.config.expressions.tree import render
from pipeline.config.model import ItemKey, Over, Reference, Template
from pipeline.config.scalars import label
from pipeline.config.secret_values import Secret
from pipeline.config.yaml_nodes import scalar
from pipeline.graph.canonical_encoding import Encoder, UnknownValue, combined

__all__ = ["short_text", "value_digest"]

_MOST_SHOWN = 60  # characters of a value


def value_digest(value: Any) -> str:
    """Return 128 bits in hex that equal values have, and no others.

    Values are equal if they mean the same: an expression is what it computes and not its text, a secret is its name,
    whatever its value. Kept apart are 1, 1.0 and True, 0.0 and -0.0, lists and tuples, maps in another
    order.

    Raises
    ------
    UnknownValue : if it, or anything in it, is of another type; the message names it
    """
    try:
        return combined([_ConfigEncoder().encode(value)])[:32]
    except RecursionError:
        raise UnknownValue("a value that is nested too deeply") from None


class _ConfigEncoder(Encoder):
    """Encodes the values of a Config."""

    def encode_other(self, value: Any) -> bytes:
        if isinstance(value, Secret):
            return b"?" + self.encode(value.name)
        if isinstance(value, Reference):  # its text may be written in several ways
            return b"r" + self.encode(
                (value.instances, value.gathered, value.labels, value.part, value.picks),
            )
        if isinstance(value, Expression):
            return b"x" + self.encode((value.scope, value.root, value.references))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if one.compare}
            return b"D" + self.encode((type(value).__qualname__, fields))
        if isinstance(value, Mapping) and type(value) is not dict:
            return self.encode(dict(value))
        return super().encode_other(value)


def short_text(value: Any, digest: str) -> str:
    """Return a value as short text; one that is cut is followed by the beginning of its digest."""
    text = _text(value, _MOST_SHOWN + 1)
    if len(text) <= _MOST_SHOWN:
        return text
    size = f", {len(value):,} values" if isinstance(value, list | tuple | Mapping) else ""
    return f"{text[: _MOST_SHOWN - 10].rstrip()} …{size} #{digest[:8]}"


def _text(value: Any, room: int) -> str:
    """Return a value as text; of a long one only what fits."""
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, Expression):
        return render(value.root, value.references)
    if isinstance(value, Reference):
        return value.text or ", ".join(value.instances)
    if isinstance(value, ItemKey):
        return f"${{{'.'.join((value.name, *value.path))}}}"
    if isinstance(value, Template):
        return "".join(piece if isinstance(piece, str) else f"${{{_text(piece, room)}}}" for piece in value.pieces)
    if isinstance(value, Over):
        return _text(dict(value.axes) if value.axes else value.maps, room)
    if isinstance(value, Mapping):
        return f"{{{_joined((f'{name}: {_text(one, room)}' for name, one in value.items()), room)}}}"
    if isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], Reference):
        return _text(value[0], room)
    if isinstance(value, list | tuple):
        return f"[{_joined((_text(one, room) for one in value), room)}]"
    if isinstance(value, str | int | float | None):
        text = label(value)
        return f'"{text}"' if isinstance(value, str) and not isinstance(scalar(text), str) else text
    return str(value)


def _joined(texts: Iterable[str], room: int) -> str:
    found, length = [], 0
    for text in texts:
        found.append(text)
        length += len(text) + 2
        if length > room:
            break
    return ", ".join(found)
