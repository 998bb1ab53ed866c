"""Values of Python as the tree of a file, and references to steps as objects."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import date, time
from typing import Any, NoReturn

from pipeline.config.expressions.references import ExpressionError, PickText, ReferenceText, parse_reference
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.scalars import label
from pipeline.config.yaml_nodes import MOST_DEPTH, MOST_VALUES, Node, scalar
from pipeline.errors import ConfigError, Location, printable

__all__ = ["StepReference", "param_nodes", "tree_of"]


class StepReference:
    """A reference to a step or a part of it, as ``p["tas"]`` and ``p.step(…)`` return it; steps take it as input.

    ``ref["A1B"]`` is one instance by its label, ``ref["*"]`` all of them; ``ref[{"alpha": 0.1, "fold": "*"}]`` names
    the keys of the matrix, and ``ref[{"time": slice(0, 40)}]`` picks positions along a dim. ``ref.u`` is a part.
    ``str(ref)`` is the text that a file has for it, as for f-strings that make expressions.

    >>> tas = StepReference("tas")
    >>> str(tas["A1B"]), str(tas[{"time": slice(-10, None)}]), f"{tas} - {tas['*']}"
    ('tas[A1B]', 'tas[time=-10:]', 'tas - tas[*]')
    >>> StepReference("svd").u[{"component": 0}]
    <svd.u[component=0]>
    """

    __slots__ = ("_text",)

    def __init__(self, text: str | ReferenceText) -> None:
        try:
            self._text = parse_reference(text) if isinstance(text, str) else text
        except ExpressionError as error:
            raise ConfigError(f"{text!r}: {error}") from None

    def __getitem__(self, pick: Any) -> StepReference:
        given = pick.items() if isinstance(pick, Mapping) else [(None, one) for one in _several(pick)]
        picks = (*self._text.picks, *(_pick(key, value) for key, value in given))
        return StepReference(str(ReferenceText(self._text.name, self._text.part, picks)))

    def __getattr__(self, part: str) -> StepReference:
        if part.startswith("_"):  # copy, pickle and notebooks look for such names
            raise AttributeError(part)
        inner = f"{self._text.part}.{part}" if self._text.part else part
        return StepReference(ReferenceText(self._text.name, inner, self._text.picks))

    def __iter__(self) -> Iterator[NoReturn]:
        raise TypeError(f"{str(self)!r} has no length before the run; all instances of a matrix: [{'*'!r}]")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StepReference) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[type[StepReference], tuple[str]]:
        return StepReference, (str(self),)

    def __str__(self) -> str:
        return str(self._text)

    def __repr__(self) -> str:
        return f"<{self}>"


def _several(pick: Any) -> tuple[Any, ...]:
    return pick if isinstance(pick, tuple) else (pick,)


def _pick(key: str | None, value: Any) -> PickText:
    value = _plain(value)
    if isinstance(value, slice):
        ends = [_plain(end) for end in (value.start, value.stop)]
        if key is None:
            raise ConfigError('positions need their dim: p["tas"][{"time": slice(0, 40)}]')
        if value.step is not None or any(end is not None and type(end) is not int for end in ends):
            raise ConfigError(f"{key}: got {value}; a slice has whole numbers as its ends, and no step")
        return PickText(key, None, start=ends[0], stop=ends[1])
    if not isinstance(value, str | int | float):
        raise ConfigError(f"got {value!r} as a pick; a pick is a label, '*', or {{'time': slice(0, 40)}}")
    text = label(value)
    is_word = text == "*" or text.replace("_", "").replace("-", "").replace(".", "").isalnum()
    return PickText(key, text, quoted=isinstance(value, str) and (not is_word or not isinstance(scalar(text), str)))


# ---------------------------------------------------------------------------------------------------------------------
# Values
# ---------------------------------------------------------------------------------------------------------------------


def tree_of(
    value: Any, at: Location, folder: str, *, convert: Callable[[Any, str], Any], path: str = "", depth: int = 0
) -> Node:
    """Return the tree of a value, all of it at one place.

    Scalars and lists of numpy become those of Python, dates text in ISO format, paths text.

    Parameters
    ----------
    folder : what paths in it are relative to
    convert : the text for an object at a path that YAML does not have, or the object itself
    path : the keys that lead to it, joined by dots
    depth : the number of maps and lists around it

    Raises
    ------
    ConfigFault : for a value that a file can't contain
    """
    value = _plain(convert(value, path))
    if depth >= MOST_DEPTH and isinstance(value, Mapping | list | tuple | range):
        raise ConfigFault(at, path, f"is nested deeper than {MOST_DEPTH} levels")
    node = Node(at, value, folder=folder)
    if isinstance(value, Mapping):
        node.value = {}
        for key, inner in value.items():
            name = label(_plain(key))
            if name in node.value:
                raise ConfigFault(at, path, f"the key {name!r} is here twice")
            inside = f"{path}.{name}" if path else name
            node.value[name] = tree_of(inner, at, folder, convert=convert, path=inside, depth=depth + 1)
        node.keys = dict.fromkeys(node.value, at)
    elif isinstance(value, list | tuple | range):
        node.value = [
            tree_of(one, at, folder, convert=convert, path=f"{path}[{i}]", depth=depth + 1)
            for i, one in enumerate(value)
        ]
    elif isinstance(value, str):
        node.value = node.text = str(value)
        if node.text.encode(errors="ignore").decode() != node.text:
            raise ConfigFault(at, path, f"got '{printable(node.text)}', with half of a character; write all of it")
    elif value is None or isinstance(value, bool | int | float):
        node.text, node.plain = _number(value), True
        if not isinstance(scalar(node.text), type(value)):
            raise ConfigFault(at, path, f"got {value!r:.60}, which is not a number in YAML")
        node.value = scalar(node.text)
    else:
        raise ConfigFault(at, path, f"got {value!r:.60} ({type(value).__name__}); a pipeline contains numbers, text, "
                    "true and false, None, lists and maps of them; data come from a step")  # fmt: skip
    inner = node.value.values() if node.is_map else node.value if node.is_list else ()
    node.size += sum(one.size for one in inner)
    if node.size > MOST_VALUES:
        raise ConfigFault(at, path, f"contains more than {MOST_VALUES:,} values; large data come from a step")
    return node


def param_nodes(params: Mapping[str, Any]) -> dict[str, Node]:
    """Return the values that replace params, by dotted name, as trees.

    Raises
    ------
    ConfigError : for a value that a file can't contain
    """
    folder = os.getcwd()
    try:
        return {
            name: tree_of(value, Location(f"params[{name!r}]"), folder, convert=lambda one, path: one)
            for name, value in params.items()
        }
    except ConfigFault as wrong:
        raise ConfigError([wrong.fault]) from None


def _plain(value: Any) -> Any:
    """Return scalars and arrays of numpy as those of Python, dates and paths as text."""
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return value.tolist()
    if isinstance(value, date | time):
        return value.isoformat()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _number(value: float | None) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return label(value)
