"""Whether a module that this process has imported is still as its file is now.

A notebook goes on for days: a helper that is edited after its import runs as it was, in this process and in those that
are forked from it, until it is imported anew.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import psutil

from pipeline.builder.function_code import bytecode

__all__ = ["is_outdated"]


def is_outdated(module: str, path: str, source: bytes) -> bool:
    """Return whether this process has imported a module as it was before its file got this content.

    Functions and constants are compared, of files that were changed after this process was started.

    Raises
    ------
    SyntaxError, ValueError : if the content is no Python
    """
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    if loaded is None or not isinstance(file, str) or not _is_same(file, path):
        return False
    if os.stat(path).st_mtime < _started():
        return False
    space = vars(loaded)
    code = compile(source, file, "exec", dont_inherit=True)
    return _differs(code, space, file) or _other_constant(ast.parse(source), space)


@functools.cache
def _started() -> float:
    return psutil.Process().create_time()


def _is_same(file: str, path: str) -> bool:
    try:
        return os.path.samefile(file, path)
    except OSError:
        return False


def _differs(code: types.CodeType, space: Mapping[str, Any], file: str) -> bool:
    """Return whether a function of a module or class has another code there."""
    for inner in code.co_consts:
        if not isinstance(inner, types.CodeType) or inner.co_name not in space:
            continue
        there = space[inner.co_name]
        if isinstance(there, type):
            if there.__qualname__ == inner.co_qualname and _differs(inner, vars(there), file):
                return True
        elif any(bytecode(one) != bytecode(inner) for one in _codes(there, inner.co_qualname, file)):
            return True
    return False


def _codes(there: Any, name: str, file: str) -> Iterator[types.CodeType]:
    """Yield the code of a function of a name, below decorators that keep what they wrap."""
    there = getattr(there, "__func__", getattr(there, "fget", there))
    there = inspect.unwrap(there) if callable(there) else there
    if isinstance(there, types.FunctionType) and there.__code__.co_filename == file and there.__qualname__ == name:
        yield there.__code__


def _other_constant(tree: ast.Module, space: Mapping[str, Any]) -> bool:
    """Return whether a function is not there, or a name that is once bound to a constant has another one."""
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if statement.name not in space:
                return True
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            target, value = statement.targets[0], statement.value.value
            if isinstance(target, ast.Name) and names.count(target.id) == 1:
                there = space.get(target.id)
                if type(there) is not type(value) or repr(there) != repr(value):
                    return True
    return False
