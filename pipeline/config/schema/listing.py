"""The listing of ops for ``pipeline ops``: inputs, result and parameters, from the signature classes of the loader."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic_core import PydanticUndefined

from pipeline.config.signatures import OPS, Signature
from pipeline.config.signatures.descriptions import describe_parameter
from pipeline.errors import ConfigError

__all__ = [
    "OpEntry",
    "ParameterEntry",
    "describe",
    "entry_of",
    "op_names",
    "ops",
    "ops_text",
    "ops_unusable",
]


@dataclass(frozen=True)
class ParameterEntry:
    """One parameter: its type in words, its default as text (empty: it must be given), and its description."""

    name: str
    type: str
    default: str
    description: str

    @property
    def required(self) -> bool:
        return not self.default


@dataclass(frozen=True)
class OpEntry:
    """One op for one kind of input.

    Parameters
    ----------
    inputs : the keys that hold references, each with the kinds it takes: ``array``; ``frame, …`` where it takes a list
    gives : kind of the result; for parts with their names
    doc : the whole docstring; its first paragraph describes the result
    """

    op: str
    group: str
    inputs: Mapping[str, str]
    gives: str
    parameters: tuple[ParameterEntry, ...]
    doc: str

    @property
    def summary(self) -> str:
        """Return the first sentence of the docstring, on one line."""
        first = " ".join(self.doc.split("\n\n")[0].replace("``", "").split())
        return first.split(". ")[0].split("; ")[0].rstrip(".") if ". " in first or "; " in first else first.rstrip(".")

    def __str__(self) -> str:
        inputs = "\n".join(f"  {name}: {kinds}" for name, kinds in self.inputs.items())
        rows = [
            (p.name, p.type + (f", default {p.default}" if p.default else ""), p.description) for p in self.parameters
        ]
        parameters = "\n".join(f"  {name}: {kind}\n      {text}" for name, kind, text in rows)
        blocks = [f"{self.op}: {' or '.join(self.inputs.values()) or 'nothing'} -> {self.gives}", self.doc]
        blocks += [f"Inputs\n{inputs}"] if inputs else []
        blocks += [f"Parameters\n{parameters}"] if parameters else []
        return "\n\n".join(blocks)


def op_names() -> tuple[str, ...]:
    """Return the names of all ops that can be used, in the order of their groups."""
    return tuple(OPS)


def ops_unusable() -> tuple[str, ...]:
    """Return the ops of other distributions that can't be used, each with the reason."""
    return tuple(map(str, OPS.installed.unusable))


def describe(op: str) -> tuple[OpEntry, ...]:
    """Return the entries of an op: one for each kind of input that it has parameters of its own for.

    Raises
    ------
    KeyError : if there is no such op; its argument is a message fit for a user
    """
    if op not in OPS:
        raise KeyError(OPS.unknown_message(op))
    return tuple(entry_of(cls) for cls in OPS[op])


def ops(name: str | None = None) -> list[dict[str, Any]]:
    """Return the entries of one op, or of all, as plain data.

    Raises
    ------
    ConfigError : if there is no such op
    """
    return [asdict(entry) for entry in _entries(name)]


def ops_text(name: str | None = None) -> str:
    """Return the text about one op; without a name a line for each op, by group.

    Raises
    ------
    ConfigError : if there is no such op
    """
    if name is not None:
        return "\n\n\n".join(map(str, _entries(name)))
    lines: list[str] = []
    groups = {entry.group: None for entry in _entries(None)}
    for group in groups:
        lines += ["", group] if lines else [group]
        lines += [
            f"  {entry.op:<16}{textwrap.shorten(entry.summary, 62, placeholder=' …')}"
            for entry in _entries(None)
            if entry.group == group
        ]
    return "\n".join(lines)


def _entries(name: str | None) -> list[OpEntry]:
    try:
        return [entry for op in (op_names() if name is None else (name,)) for entry in describe(op)]
    except KeyError as error:
        raise ConfigError(str(error.args[0])) from None


def entry_of(cls: type[Signature]) -> OpEntry:
    """Return the entry of one signature class."""
    inputs = {}
    for name, role in cls.roles().items():
        kinds = [f"{kind}, or a list of them" if kind in role.gathered else kind for kind in role.kinds]
        kinds = [f"a map of names to {' or '.join(kinds)}s"] if role.named else kinds
        inputs[name] = " or ".join(kinds) + (" (may be left out)" if role.optional else "")
    gives = f"{cls.gives}{'' if cls.gives == 'parts' else ', parts'} {', '.join(cls.parts)}" if cls.parts else cls.gives
    return OpEntry(
        cls.op, cls.family, inputs, gives, tuple(_parameter(cls, name) for name in cls.model_fields), _doc(cls)
    )


def _parameter(cls: type[Signature], name: str) -> ParameterEntry:
    info = cls.model_fields[name]
    default = ""
    if not info.is_required():
        value = info.get_default(call_default_factory=True)
        default = _yaml(value) if value is not PydanticUndefined else ""
    return ParameterEntry(name, describe_parameter(cls, name), default, info.description or "")


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_yaml(v) for v in value)}]"
    if isinstance(value, str):
        return value if value.isidentifier() else f'"{value}"'
    return str(value)


def _doc(cls: type[Signature]) -> str:
    return inspect.cleandoc(cls.__doc__ or "")
