"""The quickstart's numbers, computed a second time from the same files in plain Python and NumPy."""

from __future__ import annotations

import ast
import json
import keyword
import shutil
import sysconfig
import token
import tokenize
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from pipeline.config.loader import load
from pipeline.runs.run import Run, run

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
BRANCHES = {"If", "IfExp", "For", "AsyncFor", "While", "ExceptHandler", "BoolOp", "comprehension"}
BLOCKS = {"If", "For", "AsyncFor", "While", "With", "AsyncWith", "Try"}


def few_files(folder: Path) -> Path:
    """Two packages and the modules of three letters, with packages beside them that the census leaves out."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in library.glob("[bcd]*.py"):
        shutil.copy(path, folder / path.name)
    for package in ("json", "encodings"):
        shutil.copytree(library / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for package in ("site-packages", "test", "_private"):
        (folder / package).mkdir()
        (folder / package / "left_out.py").write_text("def f(): pass\n")
    (folder / "empty.py").write_text("")
    (folder / "older.py").write_text("def f(:\n    print 'in the syntax of another Python'\n")
    return folder


@dataclass(frozen=True, eq=False)
class Census:
    """What a run gave, and the files it is to be held against, by their keys in the order of the items."""

    run: Run
    files: dict[str, Path]


@pytest.fixture(
    scope="module", params=["few files", pytest.param("whole library", marks=pytest.mark.slow)], ids=lambda p: p
)
def census(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Census:
    place = tmp_path_factory.mktemp("census")
    if request.param == "few files":
        root = few_files(tmp_path_factory.mktemp("library"))
    else:
        root = Path(sysconfig.get_path("stdlib"))
    config = replace(load(QUICKSTART, sets={"root": json.dumps(str(root))}), keep=("counts", "total", "share", "style"))
    r = run(config, backend="serial", out=place, runs=place / "runs")
    files = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if len(parts) == 1 or parts[0][0] not in "_st":
            files["/".join(parts)] = path
    return Census(r, files)


def tree_of(path: Path) -> ast.AST | None:
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError:
        return None


def functions_of(path: Path) -> list[tuple[int, int, int]]:
    """Lines, branches and depth of each function, by one descent that carries the functions it stands in."""
    found: list[list[int]] = []

    def descend(node: ast.AST, around: list[tuple[list[int], int]]) -> None:
        kind = type(node).__name__
        if kind in ("FunctionDef", "AsyncFunctionDef"):
            mine = [node.end_lineno - node.lineno + 1, 0, 0]
            found.append(mine)
            around = [*around, (mine, 0)]
        if kind in BLOCKS:
            around = [(function, depth + 1) for function, depth in around]
        for function, depth in around:
            function[1] += kind in BRANCHES
            function[2] = max(function[2], depth)
        for child in ast.iter_child_nodes(node):
            descend(child, around)

    tree = tree_of(path)
    if tree is not None:
        descend(tree, [])
    return [tuple(numbers) for numbers in found]


def tokens_of(path: Path) -> list[int]:
    """How often each of the first 128 keywords and operators stands in a file."""
    words = [*keyword.kwlist, *sorted(token.EXACT_TOKEN_TYPES)][:128]
    if tree_of(path) is None:
        return [0] * 128
    with open(path, "rb") as file:
        seen = Counter(t.string for t in tokenize.tokenize(file.readline) if t.type in (token.NAME, token.OP))
    return [seen[word] for word in words] + [0] * (128 - len(words))


@lru_cache(maxsize=2)
def by_package(census: Census) -> dict[str, tuple[int, int, float, int]]:
    """Functions, lines, mean branches and depth of each package."""
    rows: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for key, path in census.files.items():
        rows[key.split("/")[0]] += functions_of(path)
    return {
        package: (len(r), sum(x[0] for x in r), fmean(x[1] for x in r), max(x[2] for x in r))
        for package, r in rows.items()
        if r
    }


def test_the_census_reads_the_files_that_it_is_to_read(census: Census) -> None:
    value_type = census.run.graph.value_types["paths"]
    assert sorted(value_type.names) == sorted(census.files)


def test_package_counts_equal_those_of_plain_python(census: Census) -> None:
    frame = census.run["by_package"].compute().set_index("package")
    wanted = by_package(census)
    assert sorted(frame.index) == sorted(wanted)
    for package, (functions, lines, branches, deepest) in wanted.items():
        row = frame.loc[package]
        assert (row["functions"], row["lines"], row["deepest"]) == (functions, lines, deepest)
        assert row["branches"] == pytest.approx(branches, rel=1e-12)


def test_the_branchiest_packages_are_the_ten_with_most_branches(census: Census) -> None:
    frame = census.run.open("branchiest")
    wanted = by_package(census)
    assert frame["branches"].tolist() == pytest.approx(sorted((row[2] for row in wanted.values()), reverse=True)[:10])
    assert frame["branches"].tolist() == pytest.approx([wanted[package][2] for package in frame["package"]])


def test_the_tokens_of_each_file_are_as_counted_one_by_one(census: Census) -> None:
    counts, total = census.run["counts"], census.run["total"]
    assert counts.dims == ("file", "token")
    wanted = {key: tokens_of(path) for key, path in census.files.items()}
    for key, row in zip(counts["file"].values.tolist(), counts.values.tolist(), strict=True):
        assert row == wanted[key], key
    assert int(total.sum()) == sum(map(sum, wanted.values()))


def test_shares_of_tokens_sum_to_one_or_to_zero_without_tokens(census: Census) -> None:
    counts, share = census.run["counts"].values, census.run["share"].values
    assert np.array_equal(share, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    assert set(np.round(share.sum(axis=1), 12)) <= {0.0, 1.0}


def test_the_directions_of_style_equal_numpys_up_to_sign(census: Census) -> None:
    share = census.run["share"].values
    u, s, v = (census.run[f"style.{part}"].values for part in "usv")
    left, values, right = np.linalg.svd(share, full_matrices=False)
    np.testing.assert_allclose(s, values, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose((u * s) @ v, share, atol=1e-12)
    for i in range(4):  # of these the singular values lie apart, so each direction is one, not a plane
        assert values[i] - values[i + 1] > 1e-3 * values[i]
        sign = np.sign(left[:, i] @ u[:, i])
        np.testing.assert_allclose(sign * u[:, i], left[:, i], atol=1e-9)
        np.testing.assert_allclose(sign * v[i], right[i], atol=1e-9)


def test_what_is_committed_is_the_first_four_directions(census: Census) -> None:
    committed: Any = census.run.open("style").compute()
    assert committed.dims == ("file", "component")
    assert committed["file"].values.tolist() == census.run["counts"]["file"].values.tolist()
    np.testing.assert_array_equal(committed.values, census.run["style.u"].values[:, :4])
