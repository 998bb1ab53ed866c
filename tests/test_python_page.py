"""docs/python.md: its blocks run in their order, and give the values that it shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from pages import blocks

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
FILE = """
version: 1
name: month
params: {n: 4}
steps:
  x: {op: arange, stop: "${n}", chunks: 2, dim: i}
  y: {expr: "x * 2"}
"""


def run_and_compare(text: str, line: int, space: dict[str, Any]) -> int:
    """Run the statements of a block; return the number of expressions whose value the page shows, behind ``# ->``."""
    lines, n_shown = text.splitlines(), 0
    for node in ast.parse(text).body:
        code = ast.unparse(node)
        wanted = re.search(r"# -> (.*)", lines[(node.end_lineno or 1) - 1])
        if wanted is None:
            exec(compile(ast.Module([node], []), f"{PAGE.name}:{line}", "exec"), space)
        else:
            n_shown += 1
            assert repr(eval(code, space)) == wanted[1], f"line {line + node.lineno} of the page"
    return n_shown


def test_the_blocks_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("month.yaml").write_text(FILE)
    space: dict[str, Any] = {"__name__": "__main__"}
    assert sum(run_and_compare(block.text, block.line, space) for block in blocks(PAGE)) == 7
