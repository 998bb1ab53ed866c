"""Interpolation of ``${…}``: values from params, matrix keys, the environment and files, or what stands for them.

A placeholder that is a whole value keeps the type of its value; inside text it must be a scalar. A value that is
unknown until run time becomes a :class:`Reference`, an :class:`ItemKey`, or, inside text, a :class:`Template`.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pipeline.config import files_read, secret_values, yaml_nodes
from pipeline.config.expressions.references import ExpressionError, ReferenceText, parse_reference
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.model import ItemKey, Reference, Template
from pipeline.config.scalars import label
from pipeline.config.secret_values import Secret
from pipeline.config.yaml_nodes import Node
from pipeline.errors import nearest

__all__ = ["Params", "Placeholder", "Scope", "interpolate", "placeholder_value", "split_placeholders"]

MOST_TEXT = 64 * 1024
MOST_FILE = 16 * 1024 * 1024
_DOTTED = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")


@dataclass(frozen=True)
class Placeholder:
    """The text between ``${`` and ``}``, and its column in the text around it, from 1."""

    text: str
    column: int

    @property
    def head(self) -> str:
        """Return the name that it begins with; empty for ``env:`` and the like."""
        found = re.match(r"\s*([A-Za-z][A-Za-z0-9_]*)(?!\w*:)", self.text)
        return found[1] if found else ""


@lru_cache(maxsize=4096)
def split_placeholders(text: str) -> tuple[str | Placeholder, ...]:
    """Split a text at its placeholders; ``$${`` becomes a literal ``${``.

    Raises
    ------
    ValueError : if a placeholder is never closed, or is empty
    """
    pieces: list[str | Placeholder] = []
    literal, position = "", 0
    while position < len(text):
        start = text.find("${", position)
        if start < 0:
            break
        if start > position and text[start - 1] == "$":
            literal += text[position : start - 1] + "${"
            position = start + 2
            continue
        literal += text[position:start]
        end = _closing(text, start + 2)
        if not text[start + 2 : end].strip():
            raise ValueError("got '${}' with nothing in it; a literal '${' is written '$${'")
        pieces += [literal, Placeholder(text[start + 2 : end].strip(), start + 1)]
        literal, position = "", end + 1
    pieces.append(literal + text[position:])
    return tuple(piece for piece in pieces if piece != "") or ("",)


def _closing(text: str, position: int) -> int:
    depth = 1
    for i in range(position, len(text)):
        if text.startswith("${", i):
            depth += 1
        elif text[i] == "}":
            depth -= 1
            if not depth:
                return i
    raise ValueError("'${' is never closed; a literal '${' is written '$${'")


class Params:
    """The params of a file, each interpolated when it is first used.

    A param may use others, but not itself. The number of values in a param is bounded.
    """

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._values: dict[str, Any] = {}
        self._open: list[str] = []

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __iter__(self) -> Any:
        return iter(self._nodes)

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Return the params as they are written in the file, or on the command line."""
        return self._nodes

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            node = self._nodes[name]
            if name in self._open:
                cycle = " -> ".join([*self._open[self._open.index(name) :], name])
                raise ConfigFault(node.location, f"params.{name}", f"needs itself: {cycle}")
            self._open.append(name)
            try:
                value = interpolate(node, f"params.{name}", Scope(self))
            finally:
                self._open.pop()
            if _size(value, yaml_nodes.MOST_VALUES) > yaml_nodes.MOST_VALUES:
                message = f"expands to more than {yaml_nodes.MOST_VALUES:,} values"
                raise ConfigFault(node.location, f"params.{name}", message)
            self._values[name] = value
        return self._values[name]


@dataclass(frozen=True)
class Scope:
    """What names within ``${…}`` mean at some place.

    Parameters
    ----------
    matrix : values of the matrix keys of the instance
    over : keys of the step's own ``over``
    steps : names of all steps
    resolve : the reference that a text means in this instance; None where steps can't be used
    literal : names that stay as they are written
    unsure : names that may be matrix keys: another error hides whether they are, so that they are no errors here
    """

    params: Params
    matrix: Mapping[str, Any] = field(default_factory=dict)
    over: frozenset[str] = frozenset()
    steps: frozenset[str] = frozenset()
    resolve: Callable[[ReferenceText, Node, str], Reference] | None = None
    literal: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()


def interpolate(node: Node, path: str, scope: Scope, *, run: bool = False) -> Any:
    """Return the value of a node as plain Python, its placeholders replaced.

    Parameters
    ----------
    path : the keys that lead to it, for messages
    run : whether values that are unknown until run time are allowed

    Raises
    ------
    ConfigFault : for an unknown name, a param that needs itself, a list inside text, a value that is unknown until run
        time where none is allowed
    """
    if node.is_map:
        return {key: interpolate(value, f"{path}.{key}", scope, run=run) for key, value in node.value.items()}
    if node.is_list:
        return [interpolate(value, f"{path}[{i}]", scope, run=run) for i, value in enumerate(node.value)]
    if not isinstance(node.value, str) or "${" not in node.value:
        return node.value
    return _interpolate_text(node.value, node, path, scope, run)


def _interpolate_text(text: str, node: Node, path: str, scope: Scope, run: bool) -> Any:
    try:
        pieces = split_placeholders(text)
    except ValueError as error:
        raise ConfigFault(node.location, path, str(error)) from None
    if len(pieces) == 1:
        (piece,) = pieces
        return piece if isinstance(piece, str) else placeholder_value(piece, node, path, scope, run=run)
    values = [p if isinstance(p, str) else _scalar(p, node, path, scope, run) for p in pieces]
    if any(isinstance(v, Reference | ItemKey) for v in values):
        return Template(tuple(values))
    joined = "".join(values)
    if len(joined) > MOST_TEXT:
        raise ConfigFault(node.location, path, f"expands to more than {MOST_TEXT // 1024} KiB of text")
    if any(isinstance(v, Secret) for v in values):
        return Secret(joined, "".join(v.name if isinstance(v, Secret) else v for v in values))
    return joined


def _scalar(placeholder: Placeholder, node: Node, path: str, scope: Scope, run: bool) -> Any:
    value = placeholder_value(placeholder, node, path, scope, run=run)
    if isinstance(value, Reference | ItemKey | str):
        return value
    if isinstance(value, list | dict) or value is None:
        kind = "null" if value is None else "a list" if isinstance(value, list) else "a map"
        raise ConfigFault(node.location, path, f'"${{{placeholder.text}}}" is {kind}; inside text it must be a scalar')
    return label(value)


def placeholder_value(placeholder: Placeholder, node: Node, path: str, scope: Scope, *, run: bool) -> Any:
    """Return the value of one placeholder; the arguments are those of :func:`interpolate`."""
    prefix, colon, rest = placeholder.text.partition(":")
    if colon and prefix in _OUTSIDE:
        if "${" in rest:
            rest = str(_interpolate_text(rest, node, path, scope, False))
        return _OUTSIDE[prefix](rest, node, path)
    name = placeholder.head
    if name in scope.literal and placeholder.text == name:
        return f"${{{name}}}"
    if name in scope.over:
        if not run:
            message = f'"${{{placeholder.text}}}" is unknown until run time, one value a call'
            raise ConfigFault(node.location, path, f"{message}; {_needed(path)}")
        return ItemKey(name, tuple(_keys(placeholder, node, path)[1:]))
    if name in scope.matrix:
        return _value_at(scope.matrix[name], placeholder, node, path)
    if name in scope.params:
        return _value_at(scope.params[name], placeholder, node, path)
    if name in scope.steps - scope.unsure:
        return _step_value(placeholder, node, path, scope, run)
    known = [
        *(scope.over if run else ()),
        *scope.matrix,
        *scope.params,
        *(sorted(scope.steps) if scope.resolve else ()),
    ]
    what = "param, matrix key or step" if scope.resolve else "param"
    hint = nearest(name or placeholder.text, known) or (f"; known here: {', '.join(known[:8])}" if known else "")
    message = f"no {what} is named {(name or placeholder.text)!r}{hint}"
    raise ConfigFault(node.location, path, message, consequence=name in scope.unsure)


def _needed(path: str) -> str:
    last = re.sub(r"\[\d+\]$", "", path).rsplit(".", 1)[-1]
    return f"a{'n' if last[:1] in 'aeio' else ''} {last} needs a param, a matrix key or ${{env:…}}"


def _step_value(placeholder: Placeholder, node: Node, path: str, scope: Scope, run: bool) -> Any:
    try:
        reference = parse_reference(placeholder.text, column=placeholder.column + 2)
    except ExpressionError as error:
        raise ConfigFault(node.location, path, str(error)) from None
    if scope.resolve is None or not run:
        message = f'"${{{placeholder.text}}}" is unknown until the run has computed {reference.name!r}'
        raise ConfigFault(node.location, path, f"{message}; {_needed(path)}")
    return scope.resolve(reference, node, path)


def _keys(placeholder: Placeholder, node: Node, path: str) -> list[str]:
    if not _DOTTED.fullmatch(placeholder.text):
        raise ConfigFault(node.location, path, f'"${{{placeholder.text}}}": only .key may follow the name')
    return placeholder.text.split(".")


def _value_at(value: Any, placeholder: Placeholder, node: Node, path: str) -> Any:
    names = _keys(placeholder, node, path)
    for i, name in enumerate(names[1:], 1):
        if not isinstance(value, dict) or name not in value:
            among = nearest(name, value) or f"; it has {', '.join(value)}" if isinstance(value, dict) else ""
            has = f"has no key {name!r}{among}" if isinstance(value, dict) else "is not a map"
            raise ConfigFault(node.location, path, f'"${{{placeholder.text}}}": {".".join(names[:i])!r} {has}')
        value = value[name]
    return value


def _size(value: Any, most: int) -> int:
    """Count the values in ``value``, until there are more than ``most``."""
    n, stack = 0, [value]
    while stack and n <= most:
        value = stack.pop()
        n += 1
        stack.extend(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
    return n


# ---------------------------------------------------------------------------------------------------------------------
# Values from outside the file
# ---------------------------------------------------------------------------------------------------------------------


def _env(text: str, node: Node, path: str) -> Any:
    name, has_default, default = text.partition(":-")
    got = os.environ.get(name.strip())
    if got is None or (got == "" and has_default):
        if not has_default:
            raise ConfigFault(
                node.location, path, f"the environment has no {name.strip()!r}; a default: ${{env:{name.strip()}:-…}}"
            )
        got = default
    try:
        return python_value(yaml_nodes.parse(got, name, node.folder))
    except ConfigFault:
        return got


def _secret(text: str, node: Node, path: str) -> Secret:
    got = os.environ.get(text.strip())
    if got is None:
        raise ConfigFault(
            node.location, path, f"the environment has no {text.strip()!r}, which the secret is taken from"
        )
    secret_values.note(got)
    return Secret(got, f"${{secret:{text.strip()}}}")


def _python(text: str, node: Node, path: str) -> str:
    paths = sysconfig.get_paths()
    if text.strip() not in paths:
        raise ConfigFault(
            node.location, path, f"Python has no path {text.strip()!r}; it has {', '.join(paths)}{nearest(text, paths)}"
        )
    return paths[text.strip()]


def _file(text: str, node: Node, path: str) -> Any:
    name = text.strip()
    suffix = os.path.splitext(name)[1]
    if suffix not in _READERS:
        raise ConfigFault(
            node.location, path, f"${{file:{name}}}: got {suffix or 'no suffix'}; a file is {', '.join(_READERS)}"
        )
    full = os.path.join(node.folder, name)
    try:
        if os.path.getsize(full) > MOST_FILE:
            raise ConfigFault(
                node.location, path, f"${{file:{name}}} is larger than {MOST_FILE // 1024**2} MiB; read it in a step"
            )
        files_read.note(full)
        with open(full, encoding="utf-8", newline="") as file:
            return _READERS[suffix](file.read(), full)
    except ConfigFault as fault:
        raise ConfigFault(node.location, path, f"${{file:{name}}}: {fault}") from None
    except OSError as error:
        raise ConfigFault(node.location, path, f"${{file:{name}}}: {error.strerror or error} ({full})") from None
    except (ValueError, RecursionError) as error:
        raise ConfigFault(node.location, path, f"${{file:{name}}}: {error}") from None


def _read_csv(text: str, full: str) -> list[dict[str, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}; is a quote not closed?") from None
    if not rows:
        raise ValueError("is empty; the first line must name the columns")
    header, *rest = rows
    for i, row in enumerate(rest, 2):
        if row and len(row) != len(header):
            raise ValueError(f"line {i} has {len(row)} values for {len(header)} columns")
    return [dict(zip(header, map(yaml_nodes.scalar, row), strict=True)) for row in rest if row]


def _read_yaml(text: str, full: str) -> Any:
    return python_value(yaml_nodes.parse(text, full, os.path.dirname(full)))


def python_value(node: Node) -> Any:
    """Return the value of a node as plain Python, its placeholders as they are written."""
    if node.is_map:
        return {key: python_value(value) for key, value in node.value.items()}
    return [python_value(value) for value in node.value] if node.is_list else node.value


_READERS: Mapping[str, Callable[[str, str], Any]] = {
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".json": lambda text, full: json.loads(text),
    ".csv": _read_csv,
    ".txt": lambda text, full: text.splitlines(),
}
_OUTSIDE: Mapping[str, Callable[[str, Node, str], Any]] = {
    "env": _env,
    "secret": _secret,
    "python": _python,
    "file": _file,
}
