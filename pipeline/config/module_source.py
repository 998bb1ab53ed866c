"""What a Python file defines, by reading it: its names, and the parameters of its functions. Nothing of it is run.

What is unknown is left open: a decorated function, one that is defined twice or under a condition, a class, an
imported name. With a star import, ``__getattr__`` or the like, any name may exist.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

__all__ = ["ModuleNames", "Parameter", "names_of"]

_OPENING = frozenset(("exec", "globals", "locals", "setattr", "vars", "__dict__", "modules"))
"""Names in a module that may bring others into being."""


class Parameter(NamedTuple):
    """One parameter of a function.

    Parameters
    ----------
    kind : ``positional`` (only), ``both``, ``keyword`` (only), ``*`` or ``**``
    """

    name: str
    kind: str
    is_required: bool = False


Parameters = tuple[Parameter, ...]


@dataclass(frozen=True)
class ModuleNames:
    """The names of a module, each with the parameters of the function that it is; None where that is unknown.

    Parameters
    ----------
    is_open : whether there may be others
    """

    names: Mapping[str, Parameters | None] = field(default_factory=dict)
    is_open: bool = False


@lru_cache(maxsize=256)
def names_of(source: bytes) -> ModuleNames:
    """Return the names of a module.

    Raises
    ------
    SyntaxError : if it is no Python
    """
    tree = ast.parse(source)
    found: dict[str, Parameters | None] = {}
    for name, parameters in _bindings(tree.body, is_sure=True):
        found[name] = parameters if name not in found else None
    used = {name for node in ast.walk(tree) for name in _used(node)}
    return ModuleNames(found, is_open=bool(used & _OPENING) or "*" in found or "__getattr__" in found)


def _used(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr


def _bindings(body: list[ast.stmt], *, is_sure: bool) -> Iterator[tuple[str, Parameters | None]]:
    """Yield each name that statements bind, ``*`` for a star import; parameters only where they surely hold."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            is_plain = is_sure and not statement.decorator_list
            yield statement.name, _parameters(statement.args) if is_plain else None
            yield from ((name, None) for name in _global_names(statement))
        elif isinstance(statement, ast.ClassDef):
            yield statement.name, None
            yield from ((name, None) for name in _global_names(statement))
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            is_from = isinstance(statement, ast.ImportFrom)
            for alias in statement.names:
                yield alias.asname or (alias.name if is_from else alias.name.split(".")[0]), None
        else:
            yield from _names_bound(statement)


def _names_bound(statement: ast.stmt) -> Iterator[tuple[str, None]]:
    """Yield the names that a statement binds or deletes, at any depth; more than those do no harm."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id, None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, None
        elif isinstance(node, ast.alias):
            yield node.asname or node.name.split(".")[0], None
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name, None
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest, None
    yield from ((name, None) for name in _global_names(statement))


def _global_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that functions inside bind at the top of the module."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Global):
            yield from inner.names


def _parameters(arguments: ast.arguments) -> Parameters:
    n_plain = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    plain = [*((one, "positional") for one in arguments.posonlyargs), *((one, "both") for one in arguments.args)]
    found = [Parameter(one.arg, kind, i < n_plain) for i, (one, kind) in enumerate(plain)]
    if arguments.vararg is not None:
        found.append(Parameter(arguments.vararg.arg, "*"))
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append(Parameter(one.arg, "keyword", default is None))
    if arguments.kwarg is not None:
        found.append(Parameter(arguments.kwarg.arg, "**"))
    return tuple(found)
