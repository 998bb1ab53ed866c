"""Folders in the temp folder are removed when no process holds them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.errors import BackendError
from pipeline.worker.temp_folders import Folder, hold

HOLDER = "from pipeline.worker.temp_folders import Folder\n"
HOLDER += "f = Folder(); open(f.path + '/file', 'w'); print(f.path, flush=True)"


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temp folder of this test's own; what is in it below the user's folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"pipeline-{os.getuid()}"


def test_a_folder_that_is_left_is_gone(temp: Path) -> None:
    with Folder() as folder:
        Path(folder.path, "file").touch()
        assert list(temp.iterdir()) == [Path(folder.path)]
    assert list(temp.iterdir()) == []


def test_folders_of_killed_processes_are_removed_but_not_others(temp: Path) -> None:
    holder = f"{HOLDER}; input()"
    environment = {**os.environ, "TMPDIR": str(temp.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", holder], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        with Folder():
            assert (path / "file").exists()
        process.kill()
        process.wait()
    assert (path / "file").exists()
    with Folder() as folder:
        assert list(temp.iterdir()) == [Path(folder.path)]


def test_several_may_hold_one_folder_and_the_last_lets_it_go(temp: Path) -> None:
    (path, first), (same, second) = hold("code-0"), hold("code-0")
    assert path == same
    os.close(first)
    with Folder():
        assert path.exists()
    os.close(second)
    with Folder():
        assert not path.exists()


def test_a_folder_that_others_may_write_to_is_not_used(temp: Path) -> None:
    temp.mkdir(mode=0o777)
    temp.chmod(0o777)
    with pytest.raises(BackendError, match="must be a folder that belongs to you and that no other user can read"):
        Folder()


def test_a_temp_folder_that_cannot_be_written_to_is_named(temp: Path) -> None:
    temp.parent.joinpath(temp.name).touch()
    with pytest.raises(BackendError, match=f"{temp}: can't be made: .*; set TMPDIR to another temp folder"):
        Folder()


def test_in_a_given_folder_only_the_same_kind_is_removed(tmp_path: Path) -> None:
    for name in ("code-run", "scratch-old", "scratched"):
        (tmp_path / name).mkdir()
    with Folder("scratch", tmp_path) as folder:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["code-run", Path(folder.path).name, "scratched"]
