"""Names of steps and items on the command line, as ``pipeline show`` and ``pipeline debug`` take them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.config.expressions.references import ExpressionError, parse_reference
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.matrix import AbsentInstance, BoundReference, Instances, resolve_reference
from pipeline.config.model import Config, Reference
from pipeline.config.scalars import label
from pipeline.errors import ConfigError, Location, nearest

__all__ = ["Target", "parse_target"]

_WRITTEN = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)(?:\.([A-Za-z][A-Za-z0-9_]*))?\s*(?:\[(.*)\])?\s*", re.DOTALL)
_FEW = 8  # names that a message lists


@dataclass(frozen=True)
class Target:
    """A reference, and the item of its value that is picked.

    Parameters
    ----------
    text : the key of an item as it is written; empty: none is picked
    chosen : the keys of the step's own ``over`` that are picked, with their labels
    error : the message if it turns out that there is no such item
    """

    reference: Reference
    text: str = ""
    chosen: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def picks_items(self) -> bool:
        return bool(self.text)

    def positions(self, names: Sequence[str]) -> list[int]:
        """Return the positions of the picked items among these keys.

        Raises
        ------
        ConfigError : if there is no such item
        """
        if self.text in names:
            return [names.index(self.text)]
        pieces = {f"{key}={text}" for key, text in self.chosen.items()}
        found = [i for i, name in enumerate(names) if pieces <= set(name.split(","))] if pieces else []
        if not found and len(self.chosen) == 1:  # an item passed on by a step keeps its own key
            found = [i for i, name in enumerate(names) if name == next(iter(self.chosen.values()))]
        if not found:
            few = ", ".join(names[:_FEW]) + (f", … ({len(names):,} in all)" if len(names) > _FEW else "")
            raise ConfigError(
                f"{self.reference.step!r} has no item {self.text!r}{nearest(self.text, names) or f'; it has {few}'}"
            )
        return found


def parse_target(config: Config, text: str) -> Target:
    """Return what a name on the command line means in a file.

    Raises
    ------
    ConfigError : if it names nothing, with the nearest name that there is
    """
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise ConfigError(_syntax_error(text) or f"got {text!r}; write the name of a step: tas, svd.u, fit[alpha=0.1]")
    step, part, inner = written[1], written[2] or "", (written[3] or "").strip()
    instances = _instances(config, step)
    if text.strip() in config.absent:
        raise ConfigError(f"{text.strip()!r} does not exist: {config.absent[text.strip()]}")
    try:
        return _by_grammar(config, instances, text)
    except (ConfigFault, ExpressionError, AbsentInstance) as error:
        message = error.fault.message if isinstance(error, ConfigFault) else str(error)
        names = list(instances.names.values())
        if isinstance(error, AbsentInstance):
            message = f"{step!r} has {len(names):,} instances; name one: {_few(names)}, or all: {step}[*]"
        # the text may end with the key of an item, unknown before the run
        for name in names:
            own = name.removeprefix(step).removeprefix("[").removesuffix("]")
            if inner and (not own or inner.startswith(f"{own},")):
                item = inner.removeprefix(f"{own},") if own else inner
                return Target(Reference(step, (name,), part=part, text=text), item, error=message)
        raise ConfigError(message) from None


def _syntax_error(text: str) -> str:
    try:
        parse_reference(text)
    except ExpressionError as error:
        return str(error)
    return ""


def _instances(config: Config, step: str) -> Instances:
    """Return the instances of a step of a Config."""
    keys: dict[str, dict[str, Any]] = {}
    names: dict[tuple[str, ...], str] = {}
    for instance in config.all_steps.values():
        if instance.step == step:
            for key, value in instance.matrix.items():
                keys.setdefault(key, {})[label(value)] = value
            names[tuple(label(value) for value in instance.matrix.values())] = instance.name
    if not names:
        absent = next((why for name, why in config.absent.items() if name.partition("[")[0] == step), "")
        if absent:
            raise ConfigError(f"no instance of {step!r} exists: {absent}")
        steps = list(dict.fromkeys(instance.step for instance in config.all_steps.values()))
        raise ConfigError(f"no step is named {step!r}{nearest(step, steps) or f'; steps: {_few(steps)}'}")
    return Instances(step, keys, names, config.absent)


def _by_grammar(config: Config, instances: Instances, text: str) -> Target:
    """Read a text by the grammar of references; picks along keys of the step's own ``over`` pick items."""
    written = parse_reference(text)
    overs = (step.over for step in config.all_steps.values() if step.step == instances.step and step.over is not None)
    item_keys = {name for over in overs for name, _ in over.axes} - set(instances.keys)
    items = [pick for pick in written.picks if pick.key in item_keys and not pick.is_slice and not pick.is_gather]
    rest = tuple(pick for pick in written.picks if pick not in items)
    reference = BoundReference(replace(written, picks=rest), Location(), "", instances)
    matrix = instances.matrix(next(iter(instances.names))) if len(instances.names) == 1 else {}
    chosen = {str(pick.key): str(pick.value) for pick in items}
    item = ",".join(f"{key}={value}" for key, value in chosen.items())
    return Target(replace(resolve_reference(reference, matrix), text=str(written)), item, chosen)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_FEW]) + (", …" if len(names) > _FEW else "")
