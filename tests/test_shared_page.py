"""docs/shared.md: its file runs and shares what is large, and its functions count."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pages import blocks

import pipeline

PAGE = Path(__file__).parents[1] / "docs" / "shared.md"


def test_the_file_of_the_page_shares_what_is_large(tmp_path: Path) -> None:
    (text,) = (block.text for block in blocks(PAGE) if block.language == "yaml")
    (tmp_path / "p.yaml").write_text(text.replace("cluster: {", "cluster: {start_method: forkserver, "))
    r = pipeline.load(tmp_path / "p.yaml").run(backend="processes", workers=2, out=tmp_path, runs=tmp_path / "runs")
    assert r["spread"].shape == (500,)
    moved = r.to_dict()["transfers"]
    assert moved["shared"] > 0


def test_the_functions_of_the_page_count(tmp_path: Path) -> None:
    (text,) = (block.text for block in blocks(PAGE) if block.language == "python")
    (tmp_path / "mine.py").write_text(text + "\n\nfor i in range(3):\n    count(i)\nprint(seen.value, sums[:])\n")
    done = subprocess.run([sys.executable, tmp_path / "mine.py"], capture_output=True, text=True, check=True)
    assert done.stdout == "3 [0.0, 0.0, 0.0]\n"
