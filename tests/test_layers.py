"""The structure of the package: its files; imports point down, without a cycle, at the top of a file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import pipeline

PACKAGE = Path(pipeline.__file__).parent

# From the top down, a row a folder. A module imports from rows below its own, or from its own folder.
ROWS = (
    "__main__",
    "cli",
    "",  # pipeline/__init__.py: the public names, imported on first use
    "api",
    "report",
    "experiments",
    "runs",
    "builder",
    "ops",
    "backends",
    "outputs",
    "worker",
    "trace",
    "graph",
    "config",
    "errors",
    "units",
)
MODULES = sorted(PACKAGE.rglob("*.py"))

LIGHT_START = {"", "__main__", "cli", "api"}
"""What may import our own modules inside functions: ``--help`` and a bad file are answered without numpy and dask, and
Ctrl-C is handled before anything is imported."""


class Import(NamedTuple):
    """One module of the package that another one imports; ``inner`` inside a function, ``typing`` for types alone."""

    module: str
    inner: bool
    typing: bool


def dotted_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top(dotted: str) -> str:
    """The entry of the table that a module belongs to."""
    return dotted.split(".")[1] if "." in dotted else ""


def nodes(tree: ast.AST, inner: bool = False, typing: bool = False) -> Iterator[tuple[ast.AST, bool, bool]]:
    for node in ast.iter_child_nodes(tree):
        yield node, inner, typing
        yield from nodes(
            node,
            inner or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)),
            typing or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)),
        )


@cache
def imports(path: Path) -> frozenset[Import]:
    """Every module of the package that a file imports, wherever in the file."""
    found = set()
    for node, inner, typing in nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            for alias in node.names:
                dotted = f"{node.module}.{alias.name}"
                file = PACKAGE.parent / dotted.replace(".", "/")
                is_module = file.with_suffix(".py").exists() or (file / "__init__.py").exists()
                found.add(Import(dotted if is_module else node.module, inner, typing))
        elif isinstance(node, ast.Import):
            found |= {Import(a.name, inner, typing) for a in node.names if a.name.split(".")[0] == "pipeline"}
    return frozenset(found)


def test_the_table_is_the_top_level() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    files = {path.stem for path in PACKAGE.glob("*.py")}
    assert len(folders) == 12
    assert files == {"__init__", "__main__", "api", "errors", "units"}
    assert {"" if name == "__init__" else name for name in folders | files} == set(ROWS)


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_imports_point_down(path: Path) -> None:
    own = top(dotted_name(path))
    for other in imports(path):
        if top(other.module) != own:
            assert ROWS.index(top(other.module)) > ROWS.index(own), f"imports {other.module}, which is above it"


def test_no_cycle_of_imports() -> None:
    """Imports inside functions and for types are counted: they are where cycles hide."""
    graph = {dotted_name(path): {other.module for other in imports(path)} - {dotted_name(path)} for path in MODULES}
    while leaves := [name for name, needs in graph.items() if not needs & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"these import each other: {sorted(graph)}"


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_own_modules_are_imported_at_the_top(path: Path) -> None:
    if top(dotted_name(path)) not in LIGHT_START:
        assert not [other.module for other in imports(path) if other.inner]


def own_statements(path: Path) -> list[ast.stmt]:
    return [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=dotted_name)
def test_the_init_of_a_folder_is_its_map(path: Path) -> None:
    """A line for each file and folder, and, where there are folders below, nothing imported."""
    if path.parent == PACKAGE:
        return
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    entries = {p.stem for p in path.parent.glob("*.py")} - {"__init__"}
    entries |= {f"{p.name}/" for p in path.parent.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    listed = {line.split()[0] for line in text.splitlines() if line.split()}
    assert entries <= listed, f"on no line of the map: {sorted(entries - listed)}"
    if any(entry.endswith("/") for entry in entries):
        assert not own_statements(path)


def test_no_name_twice_in_a_folder_of_the_top_level() -> None:
    """A signature may have the name of its op's file: they are in different folders of the top level."""
    seen: dict[tuple[str, str], str] = {}
    for path in MODULES:
        dotted = dotted_name(path)
        if path.name != "__init__.py" and "." in dotted:
            key = (top(dotted), path.stem)
            assert key not in seen, f"{dotted} and {seen[key]}"
            seen[key] = dotted


# ---------------------------------------------------------------------------------------------------------------------
# Private parts of dask
# ---------------------------------------------------------------------------------------------------------------------

DASK_PRIVATE = {"pipeline.graph.graph", "pipeline.builder.lowering"}
"""The files that may use private parts of dask: those they use are pinned by tests of their own."""

NOT_DASKS = {"_replace", "_asdict", "_fields", "_make", "_exit", "_getframe", "_config", "_inheriting", "_inqueue",
             "_outqueue", "_rlock", "_wlock"}  # fmt: skip
"""Of named tuples, ``os``, ``sys`` and ``multiprocessing``."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def own_private_names(tree: ast.AST) -> set[str]:
    """The private names that a file defines itself: functions, classes, their members and ``self._name``."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            names.add(node.attr)
    return names


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def foreign_private_names(source: str) -> set[str]:
    """The private names of other packages that a source file imports, or uses as an attribute of any object.

    An attribute that the file defines itself counts as its own, also where dask has one of the same name.
    """
    tree = ast.parse(source)
    attributes, imported = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not is_self(node.value):
            attributes.add(node.attr)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "getattr",
            "setattr",
            "hasattr",
            "delattr",
        ):
            attributes |= {arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant)}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] != "pipeline":
            imported |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Import):
            imported |= {part for alias in node.names for part in alias.name.split(".")}
    return {name for name in imported | (attributes - own_private_names(tree)) if is_private(name)} - NOT_DASKS


@cache
def dask_private_uses() -> frozenset[tuple[str, str]]:
    """(file, name) of each private part of dask that a file uses and may not."""
    return frozenset(
        (dotted_name(path), name)
        for path in MODULES
        if dotted_name(path) not in DASK_PRIVATE
        for name in foreign_private_names(path.read_text(encoding="utf-8"))
    )


def test_private_parts_of_dask_are_used_in_their_files_only() -> None:
    assert not dask_private_uses()


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("frame._meta", {"_meta"}),
        ("from dask._task_spec import Task", {"_task_spec"}),
        ("from dask.blockwise import _get_coord_mapping", {"_get_coord_mapping"}),
        ("import dask._compatibility", {"_compatibility"}),
        ("getattr(array, '_meta', None)", {"_meta"}),
        ("client._state = 1", {"_state"}),
        ("class A:\n    def f(self): self._x = 1\ndef g(a): return a._x", set()),
        ("def _meta(): ...\n_meta()", set()),
        ("from pipeline.x import _y", set()),
    ],
)
def test_private_names_are_found(source: str, names: set[str]) -> None:
    assert foreign_private_names(source) == names
