"""Why results differ between back ends, as far as the user's functions show it: what their tasks share.

A function that changes a global, or a value that can't be pickled, gives results that depend on which tasks ran before
it in the same process, and so on the back end.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.graph.graph import CONTEXT, Graph, Key
from pipeline.graph.nodes import constant, cull
from pipeline.graph.ownership import runs_users_code

__all__ = ["GlobalUse", "global_use", "shared_state"]

_CHANGING = frozenset(
    {
        *("add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop", "popitem"),
        *("popleft", "remove", "reverse", "setdefault", "sort", "update"),
    }
)
"""Methods that change lists, dicts, sets and deques."""
_OWN_NUMBERS = frozenset({"default_rng", "Generator", "RandomState", "Random", "SeedSequence", "PCG64", "Philox"})
"""What of a module of random numbers does not use its global ones."""


class GlobalUse(NamedTuple):
    """A global that a function changes, or its use of global random numbers (``name`` is empty): where it does so."""

    function: str
    name: str
    line: int


def shared_state(graph: Graph, keys: Iterable[Key], shared: Iterable[Sequence[str]]) -> str:
    """Return what tasks above some keys share, as the likely cause of a difference; empty if nothing is seen.

    Parameters
    ----------
    keys : of the value that differs
    shared : step and type of values that tasks of the run shared, as the notes of a Trace have them
    """
    functions = _functions(graph, keys)
    for step, kind in shared:
        if step in functions:
            return (
                f"tasks of {step!r} share a {kind}, which can't be pickled: one that changes it changes it for others"
            )
    for step, text in functions.items():
        module, _, function = text.partition(":")
        file, source = _source(graph.modules, module)
        use = global_use(source, function) if source else None
        if use is not None:
            what = f"changes the global {use.name!r}, which the tasks of a process share" if use.name else (
                "draws global random numbers, which depend on the tasks before: 'seed: true' gives it a seed"
            )  # fmt: skip
            return f"{step}: {use.function} {what} ({file}:{use.line})"
    return ""


def _functions(graph: Graph, keys: Iterable[Key]) -> dict[str, str]:
    """Return step instance -> ``module:function`` for the user's functions that some keys need."""
    found: dict[str, str] = {}
    tasks = {**graph.tasks, CONTEXT: constant(CONTEXT, None)}
    for key, node in cull(tasks, [key for key in keys if key in graph.tasks]).items():
        owner = graph.owners.get(key, "")
        if owner not in found and runs_users_code(node):
            arguments: Sequence[Any] = getattr(node, "args", ())
            texts = [getattr(argument, "function", argument) for argument in arguments]
            text = next((text for text in texts if isinstance(text, str) and ":" in text), None)
            if text is not None:
                found[owner] = text
    return found


def _source(modules: Mapping[str, bytes], module: str) -> tuple[str, str]:
    """Return the file and the source of a module of the user's; empty if it is not one."""
    path = module.replace(".", "/")
    for file in (f"{path}.py", f"{path}/__init__.py"):
        if file in modules:
            return file, modules[file].decode(errors="replace")
    return "", ""


def global_use(source: str, function: str) -> GlobalUse | None:
    """Return the first change of a global in a function, or in those of the same module that it calls.

    >>> global_use("seen = []\\\\ndef f(x):\\\\n    seen.append(x)", "f")
    GlobalUse(function='f', name='seen', line=3)
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    targets = (target for node in tree.body for target in _targets(node))
    names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    todo, seen = [function], set()
    while todo:
        name = todo.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for changed, line in _uses(functions[name], names):
            return GlobalUse(name, changed, line)
        calls = (node.func for node in ast.walk(functions[name]) if isinstance(node, ast.Call))
        todo += [called.id for called in calls if isinstance(called, ast.Name)]
    return None


def _targets(node: ast.AST) -> list[ast.expr]:
    """Return what a statement assigns to or deletes."""
    if isinstance(node, ast.Assign | ast.Delete):
        return list(node.targets)
    return [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []


def _uses(function: ast.FunctionDef | ast.AsyncFunctionDef, names: set[str]) -> Iterator[tuple[str, int]]:
    """Yield the globals that a function changes, each with the line; an empty name for global random numbers."""
    declared = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
    arguments = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    stored = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    known = (names - arguments - stored) | declared
    for node in ast.walk(function):
        for target in _targets(node):
            root = _root(target)
            if root in known and (root in declared or not isinstance(target, ast.Name)):
                yield root, target.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in _CHANGING and _root(node.func.value) in known:
                yield _root(node.func.value), node.lineno
            of = ast.unparse(node.func.value)
            if of in ("random", "np.random", "numpy.random") and node.func.attr not in _OWN_NUMBERS:
                yield "", node.lineno
        elif isinstance(node, ast.Call) and _root(node.func) == "next" and node.args and _root(node.args[0]) in known:
            yield _root(node.args[0]), node.lineno


def _root(node: ast.AST) -> str:
    """Return the name that an expression such as ``a.b[0].c`` begins with; empty if there is none."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
