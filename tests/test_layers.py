"""The structure of the package: its files; imports point down, without a cycle, at the top of a file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
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


def statements(
    body: Sequence[ast.AST], inner: bool = False, typing: bool = False
) -> Iterator[tuple[ast.AST, bool, bool]]:
    """The statements of a body and of all bodies in them; expressions hold none."""
    for node in body:
        yield node, inner, typing
        below = [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]
        yield from statements(
            below,
            inner or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)),
            typing or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)),
        )


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> frozenset[Import]:
    """Every module of the package that a file imports, wherever in the file."""
    found = set()
    for node, inner, typing in statements(parsed(path).body):
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


def test_imports_point_down() -> None:
    for path in MODULES:
        own = ROWS.index(top(dotted_name(path)))
        above = [other.module for other in imports(path) if ROWS.index(top(other.module)) < own]
        assert not above, f"{dotted_name(path)} imports {above}, which is above it"


def test_no_cycle_of_imports() -> None:
    """Imports inside functions and for types are counted: they are where cycles hide."""
    graph = {dotted_name(path): {other.module for other in imports(path)} - {dotted_name(path)} for path in MODULES}
    while leaves := [name for name, needs in graph.items() if not needs & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"these import each other: {sorted(graph)}"


def test_own_modules_are_imported_at_the_top() -> None:
    found = {dotted_name(path): [other.module for other in imports(path) if other.inner] for path in MODULES}
    assert not {name: inner for name, inner in found.items() if inner and top(name) not in LIGHT_START}


def own_statements(path: Path) -> list[ast.stmt]:
    return [
        node for node in parsed(path).body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=dotted_name)
def test_the_init_of_a_folder_is_its_map(path: Path) -> None:
    """A line for each file and folder, and, where there are folders below, nothing imported."""
    if path.parent == PACKAGE:
        return
    text = ast.get_docstring(parsed(path)) or ""
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

DASK_PRIVATE = {"pipeline.graph.nodes", "pipeline.builder.lowering", "pipeline.builder.blockwise"}
"""The files that may use private parts of dask: those they use are pinned by tests of their own."""
SKLEARN_PRIVATE = {
    (
        "pipeline.ops.learning.estimators",
        "_validate_params",
    ),  # its developers' API: a bad value is found before the run
    ("pipeline.ops.learning.members", "_seeds"),  # of bagging, which estimators_samples_ is made from
}
ARROW_PRIVATE = {("pipeline.graph.late_pandas", "_pandas_api")}  # asks for pandas once; pinned by a test below

NOT_DASKS = {"_replace", "_asdict", "_fields", "_make", "_exit", "_getframe", "_config", "_inheriting", "_inqueue",
             "_outqueue", "_dir_candidates", "_rlock", "_wlock", "_reader", "_writer"}  # fmt: skip
"""Of named tuples, ``os``, ``sys`` and ``multiprocessing``."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def own_private_names(nodes: Iterable[ast.AST]) -> set[str]:
    """The private names that a file defines itself: functions, classes, their members and ``self._name``."""
    names = set()
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            names.add(node.attr)
    return names


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def foreign_private_names(tree: ast.Module) -> set[str]:
    """The private names of other packages that a source file imports, or uses as an attribute of any object.

    An attribute that the file defines itself counts as its own, also where dask has one of the same name.
    """
    nodes = [*ast.walk(tree)]
    attributes, imported = set(), set()
    for node in nodes:
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
    return {name for name in imported | (attributes - own_private_names(nodes)) if is_private(name)} - NOT_DASKS


@cache
def dask_private_uses() -> frozenset[tuple[str, str]]:
    """(file, name) of each private part of dask that a file uses and may not."""
    return frozenset(
        (dotted_name(path), name)
        for path in MODULES
        if dotted_name(path) not in DASK_PRIVATE
        for name in foreign_private_names(parsed(path))
    )


def test_private_parts_of_dask_are_used_in_their_files_only() -> None:
    assert not dask_private_uses() - SKLEARN_PRIVATE - ARROW_PRIVATE


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
    assert foreign_private_names(ast.parse(source)) == names


CALLING = (
    "pipeline.backends.local.child_main, pipeline.backends.local.messages, pipeline.ops.calls.calls, "
    "pipeline.ops.calls.commands, pipeline.outputs.writers"
)


@pytest.mark.parametrize("modules", [CALLING, "pipeline.experiments.comparison.measured_run"])
def test_a_process_that_only_calls_functions_does_not_import_pandas(modules: str) -> None:
    """Workers, and the process of each measured run."""
    found = subprocess.run(
        [sys.executable, "-c", f"import {modules}; import sys; print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"numpy", "dask"} <= set(found.stdout.split())
    assert not {"pandas", "xarray", "pydantic", "distributed"} & set(found.stdout.split())


FRAMES_ALONE = """
import sys
from pathlib import Path
from pipeline import cli
Path("f.yaml").write_text('''
version: 1
steps:
  t: {op: read_parquet, path: t.parquet}
  u: {op: filter, input: t, where: "a > 1"}
  v: {op: assign, input: u, columns: {c: "a + 1"}}
  g: {op: groupby, input: t, by: s, agg: {m: "max(a)"}}
  m: {op: merge, left: v, right: g, on: s}
  n: {op: sort_values, input: m, by: [a, c]}
  few: {op: sort_values, input: t, by: [b], n: 2}
  some: {op: sample, input: t, n: 2}
  whole: {op: astype, input: t, columns: {a: float32, b: float32}}
  sums: {op: window, input: t, by: s, order: [a], columns: {r: "cumsum(b)"}}
  days: {op: assign, input: t, columns: {day: "parse_time('2020-01-01', '%Y-%m-%d') + duration('1d') * a"}}
  near: {op: merge_asof, left: days, right: t_days, on: day, by: s}
  t_days: {op: rename, input: days, columns: {a: c, b: d}}
  weeks: {op: resample, input: days, on: day, rule: week, agg: {b: sum(b)}}
  past: {op: rolling, input: days, on: day, window: 2D, columns: {m: "mean(b)", k: "count(b)"}}
  once: {op: drop_duplicates, input: t, subset: [s]}
outputs:
  few: {to: csv, path: few.csv}
  some: {to: csv, path: some.csv}
  whole: {to: csv, path: whole.csv}
  sums: {to: csv, path: sums.csv}
  near: {to: csv, path: near.csv}
  weeks: {to: csv, path: weeks.csv}
  past: {to: csv, path: past.csv}
  once: {to: csv, path: once.csv}
  v: {to: parquet, path: v, partition_by: [s]}
  w: {input: v, to: csv, path: w.csv}
  x: {input: n, to: json, path: x.jsonl}
checks:
  - {that: v, rows: 2, columns: {a: int64}}
''')
assert cli.main(["check", "f.yaml"]) == 0
print("check", *sorted(sys.modules))
assert cli.main(["run", "f.yaml", "--backend", "serial"]) == 0
print("run", *sorted(sys.modules))
"""


def test_frames_alone_need_neither_pandas_nor_xarray(tmp_path: Path) -> None:
    columns = {"a": pa.array([1, 2, 3], "int64"), "b": pa.array([0.5, None, 2.0]), "s": pa.array(["x", None, "y"])}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    command = [sys.executable, "-c", FRAMES_ALONE]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    loaded = {words[0]: set(words[1:]) for words in map(str.split, found.splitlines()) if words[0] in ("check", "run")}
    for command_word, modules in loaded.items():
        heavy = {"pandas", "xarray", "dask.array", "dask.dataframe", "distributed"} & modules
        assert not heavy, f"{command_word} imports {heavy}"
    assert "duckdb" in loaded["run"] - loaded["check"]


ARROW_FIRST = """
import sys
import pipeline.graph.column_types
import pyarrow as pa
assert pa.array([1, None], pa.int64()).to_pylist() == [1, None]
assert "pandas" not in sys.modules
import pandas as pd
assert pa.array(pd.Series([1.5, float("nan")])).null_count == 1
assert pa.array([pd.NA, pd.NaT], pa.timestamp("us"), from_pandas=True).null_count == 2
assert pa.table(pd.DataFrame({"a": [1]})).to_pandas().a.tolist() == [1]
assert not any(type(finder).__module__ == "pipeline.graph.late_pandas" for finder in sys.meta_path)
"""


def test_arrow_knows_pandas_once_somebody_has_imported_it() -> None:
    subprocess.run([sys.executable, "-c", ARROW_FIRST], check=True)
