"""What one Python file defines and imports, by reading it: a digest of each function, and the names of modules.

Comments, layout, quotes and line numbers do not change a digest; docstrings, defaults, decorators and annotations do.
Digests are the same under all versions of Python that Pipeline supports: they are made of the syntax tree, of which
fields that are empty or say the same in another way are left out.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

__all__ = ["MODULE_LEVEL", "Import", "ModuleSource", "definitions", "read_source", "syntax_digest"]

MODULE_LEVEL = "module level"
"""The name of what a module has outside its functions and classes."""

_NO_MEANING = frozenset({"ctx", "type_comment", "type_ignores", "kind", "lineno", "col_offset"})
_DYNAMIC = frozenset({"import_module", "__import__", "spec_from_file_location", "run_path", "run_module", "exec"})
_MISSING = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


class Import(NamedTuple):
    """One import of a module.

    Parameters
    ----------
    module : its name, without the dots of a relative import
    level : number of those dots
    names : what is imported from it, which may be modules; ``*`` for all
    optional : whether the module may be absent: it is imported in a function, under a condition, or in a ``try`` that
        handles that, and the file does not change ``sys.path``, so that it could be found there
    """

    module: str
    level: int = 0
    names: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class ModuleSource:
    """What a module defines and imports.

    Parameters
    ----------
    digests : qualified name of a function or class, or :data:`MODULE_LEVEL` -> digest
    imports : in order, also those inside functions
    exported : the names in ``__all__``, where they are written as a list
    dynamic : the functions that it uses to import or run code whose name it computes
    changes_path : whether it uses ``sys.path``, so that modules may be found in other folders
    """

    digests: Mapping[str, str]
    imports: tuple[Import, ...] = ()
    exported: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    changes_path: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it in the types of JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> ModuleSource:
        """Return what :meth:`to_dict` was called on."""
        imports = tuple(Import(module, level, tuple(names), is_) for module, level, names, is_ in given["imports"])
        exported, dynamic = tuple(given["exported"]), tuple(given["dynamic"])
        return cls(dict(given["digests"]), imports, exported, dynamic, given["changes_path"])


def read_source(source: bytes) -> ModuleSource:
    """Return what a module defines and imports.

    Raises
    ------
    SyntaxError, ValueError : if it is no Python
    """
    tree = ast.parse(source)
    found: dict[str, list[bytes]] = {}
    for name, node in definitions(tree.body):
        found.setdefault(name, []).append(_syntax(node))
    reader = _Reader()
    reader.read(tree.body)
    imports = [one._replace(optional=False) for one in reader.imports] if reader.changes_path else reader.imports
    return ModuleSource(
        {name: _digest(parts) for name, parts in found.items()},
        tuple(dict.fromkeys(imports)),
        _exported(tree),
        tuple(dict.fromkeys(reader.dynamic)),
        reader.changes_path,
    )


def syntax_digest(*nodes: ast.AST) -> str:
    """Return a digest of syntax, without what has no meaning."""
    return _digest([_syntax(node) for node in nodes])


def _digest(parts: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d:%b" % (len(part), part))
    return digest.hexdigest()[:16]


# ---------------------------------------------------------------------------------------------------------------------
# Definitions
# ---------------------------------------------------------------------------------------------------------------------


def definitions(body: Sequence[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield the functions and classes of a body by qualified name, and what is outside them as one or two nodes.

    Methods are by themselves; what else a class has is below its own name.
    """
    rest: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{statement.name}", statement
        elif isinstance(statement, ast.ClassDef):
            name = f"{prefix}{statement.name}"
            inner = [*definitions(statement.body, f"{name}.")]
            own: list[Any] = [node for inside, node in inner if inside == f"{name}.{MODULE_LEVEL}"]
            yield from ((inside, node) for inside, node in inner if inside != f"{name}.{MODULE_LEVEL}")
            alone = ast.ClassDef(**{key: value for key, value in ast.iter_fields(statement) if key != "body"}, body=own)
            yield name, alone
        else:
            rest.append(statement)
    if rest or not prefix:
        yield f"{prefix}{MODULE_LEVEL}", ast.Module(rest, [])


def _syntax(node: ast.AST) -> bytes:
    """Return a tree as text: each node with its type and the fields that hold something, between brackets."""
    parts: list[str] = []
    _write(node, parts.append)
    return "".join(parts).encode("utf-8", "surrogatepass")


_HEADS: dict[type[ast.AST], tuple[str, tuple[tuple[str, str], ...]]] = {}


def _head(kind: type[ast.AST]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return how the text of a node of a type begins, and its fields, each with how its text begins."""
    if kind not in _HEADS:
        fields = tuple((name, f" {name}=") for name in kind._fields if name not in _NO_MEANING)
        _HEADS[kind] = f"({kind.__name__}", fields
    return _HEADS[kind]


def _write(node: ast.AST, write: Callable[[str], Any]) -> None:
    kind = type(node)
    if kind is ast.Constant:
        value = node.value  # type: ignore[attr-defined]
        text = value.hex() if type(value) is float else repr(value)
        write(f"{type(value).__name__} {len(text)}:{text}")
        return
    head, fields = _head(kind)
    write(head)
    for name, start in fields:
        value = getattr(node, name, None)
        if value is None or value == []:  # left out: later versions of Python have more fields
            continue
        write(start)
        if isinstance(value, ast.AST):
            _write(value, write)
        elif type(value) is list:
            for inner in value:
                if isinstance(inner, ast.AST):
                    _write(inner, write)
                else:  # of a global statement, or None for a keyword without a name
                    write(f"{type(inner).__name__} {inner};")
        else:
            text = str(value)
            write(f"{len(text)}:{text}")
    write(")")


def _exported(tree: ast.Module) -> tuple[str, ...]:
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            value = statement.value  # type: ignore[attr-defined]
            values = value.elts if isinstance(value, ast.List | ast.Tuple) else []
            return tuple(one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, str))
    return ()


# ---------------------------------------------------------------------------------------------------------------------
# Imports
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class _Reader:
    """Collects the imports of a module, in whatever statement they are."""

    imports: list[Import] = field(default_factory=list)
    dynamic: list[str] = field(default_factory=list)
    changes_path: bool = False

    def read(self, nodes: Sequence[ast.AST]) -> None:
        waiting = [(node, False) for node in reversed(nodes)]
        while waiting:
            node, is_optional = waiting.pop()
            below = [*ast.iter_child_nodes(node)]
            if isinstance(node, ast.Import):
                self.imports += [Import(alias.name, optional=is_optional) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = tuple(alias.name for alias in node.names)
                self.imports.append(Import(node.module or "", node.level, names, is_optional))
            elif isinstance(node, ast.Call):
                self._call(node, is_optional)
            elif isinstance(node, ast.If):
                below = [node.test, *([] if _is_for_types(node.test) else node.body), *node.orelse]
                is_optional = True
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                is_optional = True
            elif isinstance(node, ast.Attribute) and node.attr == "path" and getattr(node.value, "id", "") == "sys":
                self.changes_path = True
            elif isinstance(node, ast.Try) and any(map(_handles_missing, node.handlers)):
                waiting += [(inner, True) for inner in reversed(node.body)]
                below = [*node.handlers, *node.orelse, *node.finalbody]
            waiting += [(inner, is_optional) for inner in reversed(below)]

    def _call(self, node: ast.Call, is_optional: bool) -> None:
        function = node.func
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        if name not in _DYNAMIC:
            return
        first = node.args[0] if len(node.args) == 1 and not node.keywords else None
        is_literal = isinstance(first, ast.Constant) and isinstance(first.value, str)
        if is_literal and name in ("import_module", "__import__") and not first.value.startswith("."):  # type: ignore[union-attr]
            self.imports.append(Import(first.value, optional=is_optional))  # type: ignore[union-attr]
        else:
            self.dynamic.append(name)


def _is_for_types(test: ast.expr) -> bool:
    """Return whether a condition holds for type checkers alone."""
    return (test.id if isinstance(test, ast.Name) else getattr(test, "attr", "")) == "TYPE_CHECKING"


def _handles_missing(handler: ast.ExceptHandler) -> bool:
    """Return whether a handler is for a module that is absent."""
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any((kind.id if isinstance(kind, ast.Name) else getattr(kind, "attr", "")) in _MISSING for kind in kinds)
