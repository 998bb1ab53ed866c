"""What a name on the command line means: a reference, as the language has it, or one item of a step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.config.expressions.references import ExpressionError, parse_reference
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.matrix import Absent, BoundReference, Instances, referred
from pipeline.config.model import Config, Reference
from pipeline.config.scalars import label
from pipeline.errors import ConfigError, Location, nearest

__all__ = ["Named", "named"]

_WRITTEN = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)(?:\.([A-Za-z][A-Za-z0-9_]*))?\s*(?:\[(.*)\])?\s*", re.DOTALL)
_FEW = 8  # names that a message lists


@dataclass(frozen=True)
class Named:
    """A reference, and the items that it picks of what it means.

    Parameters
    ----------
    text : the key of an item as it is written; empty: none is picked
    chosen : the keys of the step's own ``over`` that are picked, with their labels
    doubt : what is wrong where the text names no item after all
    """

    reference: Reference
    text: str = ""
    chosen: Mapping[str, str] = field(default_factory=dict)
    doubt: str = ""

    @property
    def picks_items(self) -> bool:
        return bool(self.text)

    def positions(self, names: Sequence[str]) -> list[int]:
        """The positions of the items meant, of these keys.

        Raises
        ------
        ConfigError : if there is no such item
        """
        if self.text in names:
            return [names.index(self.text)]
        pieces = {f"{key}={text}" for key, text in self.chosen.items()}
        found = [i for i, name in enumerate(names) if pieces <= set(name.split(","))] if pieces else []
        if not found and len(self.chosen) == 1:  # an item handed on keeps its own key
            found = [i for i, name in enumerate(names) if name == next(iter(self.chosen.values()))]
        if not found:
            few = ", ".join(names[:_FEW]) + (f", … ({len(names):,} in all)" if len(names) > _FEW else "")
            raise ConfigError(
                f"{self.reference.step!r} has no item {self.text!r}{nearest(self.text, names) or f'; it has {few}'}"
            )
        return found


def named(config: Config, text: str) -> Named:
    """What a text means in a file.

    Raises
    ------
    ConfigError : naming what is nearest
    """
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise ConfigError(_fault_of(text) or f"got {text!r}; write the name of a step: tas, svd.u, fit[alpha=0.1]")
    step, part, inner = written[1], written[2] or "", (written[3] or "").strip()
    copies = _copies(config, step)
    if text.strip() in config.absent:
        raise ConfigError(f"{text.strip()!r} does not exist: {config.absent[text.strip()]}")
    try:
        return _parsed(config, copies, text)
    except (ConfigFault, ExpressionError, Absent) as error:
        doubt = error.fault.message if isinstance(error, ConfigFault) else str(error)
        if isinstance(error, Absent):
            names = list(copies.names.values())
            doubt = f"{step!r} has {len(names):,} copies; name one: {_few(names)}, or all: {step}[*]"
        for copy in copies.names.values():
            own = copy.removeprefix(step).removeprefix("[").removesuffix("]")
            if inner and (not own or inner.startswith(f"{own},")):
                item = inner.removeprefix(f"{own},") if own else inner
                return Named(Reference(step, (copy,), part=part, text=text), item, doubt=doubt)
        raise ConfigError(doubt) from None


def _fault_of(text: str) -> str:
    try:
        parse_reference(text)
    except ExpressionError as error:
        return str(error)
    return ""


def _copies(config: Config, step: str) -> Instances:
    """The copies of a step, as its labels have them."""
    keys: dict[str, dict[str, Any]] = {}
    names: dict[tuple[str, ...], str] = {}
    for copy in config.steps.values():
        if copy.step == step:
            for key, value in copy.matrix.items():
                keys.setdefault(key, {})[label(value)] = value
            names[tuple(label(value) for value in copy.matrix.values())] = copy.name
    if not names:
        absent = next((why for name, why in config.absent.items() if name.partition("[")[0] == step), "")
        if absent:
            raise ConfigError(f"no copy of {step!r} exists: {absent}")
        steps = list(dict.fromkeys(copy.step for copy in config.steps.values()))
        raise ConfigError(f"no step is named {step!r}{nearest(step, steps) or f'; steps: {_few(steps)}'}")
    return Instances(step, keys, names, config.absent)


def _parsed(config: Config, copies: Instances, text: str) -> Named:
    """A text by the grammar of references; picks along keys of the step's own ``over`` pick items."""
    written = parse_reference(text)
    overs = (step.over for step in config.steps.values() if step.step == copies.step and step.over is not None)
    own = {name for over in overs for name, _ in over.axes} - set(copies.keys)
    items = [pick for pick in written.picks if pick.key in own and not pick.is_slice and not pick.is_gather]
    rest = tuple(pick for pick in written.picks if pick not in items)
    use = BoundReference(replace(written, picks=rest), Location(), "", copies)
    matrix = copies.matrix(next(iter(copies.names))) if len(copies.names) == 1 else {}
    chosen = {str(pick.key): str(pick.value) for pick in items}
    item = ",".join(f"{key}={value}" for key, value in chosen.items())
    return Named(replace(referred(use, matrix), text=str(written)), item, chosen)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_FEW]) + (", …" if len(names) > _FEW else "")
