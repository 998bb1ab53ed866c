"""A skipped test is counted in one line, and fails a run that must not skip any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("strict", "code"), [("", 0), ("1", 1)])
def test_a_skip_is_counted_and_fails_where_none_may_be(strict: str, code: int, tmp_path: Path) -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(here / "test_configs.py")]
    environment = {**os.environ, "PIPELINE_DATA": str(tmp_path / "none"), "PIPELINE_SKIPS_FAIL": strict}
    done = subprocess.run(
        [*command, "-k", "real_climate"], cwd=here.parent, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("skipped")]
    assert line.endswith("1 x real data: no folder 'none'; name it by PIPELINE_DATA")
