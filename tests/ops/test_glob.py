"""Searching for input files: what a pattern finds is what ``glob`` finds, in a search that has an end."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.ops.sources import glob as searching
from pipeline.ops.sources.glob import matching, within
from pipeline.ops.sources.paths import files, locate

TREE = (
    "a.csv",
    ".b.csv",
    "_c.csv",
    "x/a.csv",
    "x/y/a.csv",
    "x/y/b.txt",
    "x/y/x/y/a.csv",
    ".h/a.csv",
    "x/.h/a.csv",
    "q[1]/a",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in TREE:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a\n1\n")
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "link").symlink_to(tmp_path / "x" / "y")
    (tmp_path / "linked.csv").symlink_to(tmp_path / "a.csv")
    (tmp_path / "broken.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "itself.csv").symlink_to(tmp_path / "itself.csv")
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    ["*", "*.csv", ".*", "**", "**/*.csv", "**/a.csv", "*/a.csv", "x/**/a.csv", "**/y/**/*.csv", "**/x/y/*", "**.csv",
     "?.csv", "[ab].csv", "[!a].*", ".h/*", ".*/*", "**/.h/*", "x/*/../a*", "*/./y/*.txt", "**/", "*/", "none/*.csv",
     "a.csv/*", "q[[]1]/*", "**/**/y/**", "x//y/*", "z/**", "*/link/*.txt"],
)  # fmt: skip
def test_a_pattern_finds_what_glob_finds(tree: Path, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    for one in (pattern, f"{tree}/{pattern}"):
        expected = {name for name in glob.glob(one, recursive=True) if os.path.isfile(name)}
        assert [os.path.normpath(name) for name in matching(one)] == sorted(map(os.path.normpath, expected))


def test_a_link_is_followed_unless_it_leads_to_a_folder_above(tree: Path) -> None:
    before = matching(f"{tree}/**/*.csv")
    (tree / "x" / "y" / "up").symlink_to(tree / "x")
    (tree / "x" / "here").symlink_to(tree / "x", target_is_directory=True)
    assert matching(f"{tree}/**/*.csv") == before
    assert f"{tree}/z/link/a.csv" in before


def test_a_folder_gives_its_files_at_any_depth_but_hidden_ones(tree: Path) -> None:
    found = {os.path.relpath(name, tree) for name in within(str(tree))}
    assert {"a.csv", "x/y/x/y/a.csv", "q[1]/a", "linked.csv", "broken.csv"} <= found
    assert not any(part.startswith((".", "_")) for name in found for part in name.split("/"))
    assert not any(name.startswith("z/link") for name in found)


@pytest.mark.parametrize("path", ["{}/**/*.csv", "{}"])
def test_a_search_of_too_many_files_ends_and_names_its_start(
    tree: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "_MOST_SEEN", 10)
    with pytest.raises(DataError, match=f"more than 10 files and folders below {tree} were searched; name a folder"):
        locate(path.format(tree))


def test_a_name_that_is_no_utf_8_is_a_file_like_any_other(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff\xe9.csv")).write_text("a\n1\n")
    items = files(path=f"{tmp_path}/*.csv")
    assert items.names == ("\udcff\udce9",)
