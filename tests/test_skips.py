"""A skipped test is counted in one line, and fails a run that must not skip any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("strict", "code"), [("", 0), ("1", 1)])
def test_a_skip_is_counted_and_fails_where_none_may_be(strict: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "test_real.py").write_text("def test_of_real_data(shared_data):\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "test_real.py"]
    given = {"PIPELINE_DATA": str(tmp_path / "none"), "PIPELINE_SKIPS_FAIL": strict}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), **given}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("skipped")]
    assert line.endswith("1 x real data: no folder 'none'; name it by PIPELINE_DATA")
