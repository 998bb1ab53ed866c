"""Imports point down the table of the design; a module that is not in the table fails."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pipeline

PACKAGE = Path(pipeline.__file__).parent

# From the top down. A module imports only from rows below its own, or from its own folder; what stands in one row is
# independent of its neighbours. A folder's name covers all its modules.
ROWS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("",),  # pipeline/__init__.py: the public names, imported on first use
    ("pipelines",),
    ("report",),
    ("explanation",),
    ("comparison",),
    ("measurement", "inspection", "debugging"),
    ("execution", "schema"),
    ("documents", "history"),
    ("provenance",),
    ("backends", "planning", "analysis", "manifest", "resolution", "tasklog"),
    ("steps", "coarsening"),
    ("referring", "demand"),
    ("lowering",),
    ("ops", "outputs", "replay"),
    ("assembly",),
    ("worker",),
    ("graph", "trace", "scheduler", "preparation", "programs", "drawing", "capture", "faults", "footprint", "estimate"),
    ("layouts", "filevalue", "composition", "naming", "scratch"),
    ("config",),
    ("signatures",),
    ("expressions",),
    ("errors",),
)
ROW = {name: number for number, row in enumerate(ROWS) for name in row}
MODULES = sorted(PACKAGE.rglob("*.py"))


def home(dotted: str) -> str:
    """The entry of the table that a module of the package belongs to."""
    return dotted.split(".")[1] if "." in dotted else ""


def dotted_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Every module of the package that a file imports anywhere, but for what only type checkers read."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (PACKAGE.parent / inner.replace(".", "/")).with_suffix(".py").exists()
                is_package = (PACKAGE.parent / inner.replace(".", "/") / "__init__.py").exists()
                found.add(inner if is_module or is_package else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "pipeline"}
    return found


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_imports_point_down(path: Path) -> None:
    own = home(dotted_name(path))
    assert own in ROW, f"{own} is in no row of the table"
    for other in imports(path):
        assert home(other) in ROW, f"{home(other)} is in no row of the table"
        if home(other) != own:
            assert ROW[home(other)] > ROW[own], f"{dotted_name(path)} imports {other}, which stands beside or above it"


def test_every_entry_of_the_table_exists() -> None:
    assert {home(dotted_name(path)) for path in MODULES} == set(ROW)


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_private_parts_of_dask_are_touched_in_two_files(path: Path) -> None:
    if "dask._task_spec" in path.read_text(encoding="utf-8").replace("``dask._task_spec``", ""):
        assert dotted_name(path) in {"pipeline.graph", "pipeline.lowering"}
