"""Manifests list the files of an output, and show when one has changed."""

from __future__ import annotations

import json

import pytest

from pipeline.graph.graph import Sink
from pipeline.graph.value_types import ItemsType, ObjectType
from pipeline.outputs.damage import differences
from pipeline.outputs.files import Context, PartRecord, write_bytes
from pipeline.outputs.manifest import DamagedManifest, Manifest, stale_files
from pipeline.outputs.target_paths import manifest_path

SINK = Sink("x", "json", "a/${key}.json", ItemsType("i", ("p", "q"), {}, 2), ())


def committed(root, *keys: str) -> Manifest:
    files = tuple(write_bytes(Context(str(root)), f"a/{key}.json", [b"1\n"]) for key in keys)
    manifest = Manifest.of(SINK, [PartRecord((0,), files, len(files), ("r",))], run="one", graph="f00")
    place = root / manifest_path(SINK.path)
    place.write_bytes(manifest.to_bytes())
    return manifest


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("b.csv", ".b.csv.manifest.json"),
        ("a/b.zarr", "a/.b.zarr.manifest.json"),
        ("a/${key}.npy", "a/.{key}.npy.manifest.json"),
        ("a/${key}/x/y.npy", "a/.{key},x,y.npy.manifest.json"),
    ],
)
def test_a_manifest_lies_hidden_beside_its_output(path, place):
    assert manifest_path(path) == place


def test_a_manifest_reads_back_as_it_was_written(tmp_path):
    manifest = committed(tmp_path, "p", "q")
    assert Manifest.load(tmp_path, SINK.path) == manifest
    assert (manifest.rows, manifest.nbytes, manifest.dropped) == (2, 4, ("r",))
    assert differences(manifest, tmp_path, hashes=True) == []


def test_an_output_that_was_never_written_has_none(tmp_path):
    assert Manifest.load(tmp_path, "b.csv") is None


def test_a_manifest_of_another_version_is_refused(tmp_path):
    (tmp_path / ".b.csv.manifest.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(ValueError, match="got manifest format 99; this version reads 1 and 2"):
        Manifest.load(tmp_path, "b.csv")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "a/p.json is missing"),
        ("12\n", "has 3 bytes; it was committed with 2"),
        ("2\n", "a/p.json has another hash"),
    ],
)
def test_a_manifest_sees_what_is_no_longer_as_committed(text, fault, tmp_path):
    manifest = committed(tmp_path, "p", "q")
    (tmp_path / "a/p.json").unlink()
    if text is not None:
        (tmp_path / "a/p.json").write_text(text)
    (found,) = differences(manifest, tmp_path, hashes=True)
    assert fault in str(found)


def test_items_of_the_last_run_that_this_one_has_not_are_stale(tmp_path):
    committed(tmp_path, "p", "q")
    new = Manifest.of(SINK, [])
    assert stale_files(tmp_path, new) == ["a/p.json", "a/q.json"]
    assert stale_files(tmp_path, Manifest.of(Sink("y", "json", "y.json", ObjectType("v"), ()), [])) == []


@pytest.mark.parametrize(
    "path", ["../victim.txt", "a/../../victim.txt", "/etc/victim", "a/./p.json", "a//p.json", "", "b/p.json", "a/p.txt"]
)
def test_a_manifest_with_a_path_outside_its_output_is_refused(path, tmp_path):
    manifest = committed(tmp_path, "p").to_dict()
    manifest["files"][0]["path"] = path
    (tmp_path / manifest_path(SINK.path)).write_text(json.dumps(manifest))
    with pytest.raises(DamagedManifest, match="which is not inside 'a/"):
        Manifest.load(tmp_path, SINK.path)
    assert stale_files(tmp_path, Manifest.of(SINK, [])) == []


def test_an_output_that_was_moved_keeps_its_manifest(tmp_path):
    manifest = committed(tmp_path, "p", "q")
    (tmp_path / "a").rename(tmp_path / "b")
    moved = Manifest.load(tmp_path, "b/${key}.json")
    assert moved is not None
    assert moved.paths() == ["b/p.json", "b/q.json"]
    assert differences(moved, tmp_path, hashes=True) == []
    assert manifest.paths() == ["a/p.json", "a/q.json"]


def test_a_stale_file_in_a_linked_folder_is_not_touched(tmp_path):
    committed(tmp_path, "p", "far/q")
    (tmp_path / "a/far").rename(tmp_path / "elsewhere")
    (tmp_path / "a/far").symlink_to(tmp_path / "elsewhere")
    assert stale_files(tmp_path, Manifest.of(SINK, [])) == ["a/p.json"]
