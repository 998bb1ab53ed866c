"""Refuse output paths at which a run would destroy its inputs, other outputs, or files that are not its own.

Inputs are the pipeline's own files, its modules, the files of checks, and all files and folders that sources find. What
a function or program opens by itself is unknown.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.config.model import Config, Output
from pipeline.errors import ConfigError, Fault, OutputError
from pipeline.graph.graph import Graph
from pipeline.ops.sources.glob import WILD, fixed_folder, would_find
from pipeline.ops.sources.paths import is_remote
from pipeline.outputs.appending import obstacle_of_append
from pipeline.outputs.collisions import Input, Inputs, folders_above
from pipeline.outputs.replaceable import item_files, obstacle
from pipeline.outputs.target_paths import is_locked, overlaps
from pipeline.runs.provenance.reads import sources

__all__ = ["check_outputs", "refuse_collisions"]

_SAMPLES = {"parquet": ("part-00000.parquet", "k=v/part-00000.parquet"), "zarr": (".zattrs", "x/.zarray", "x/0")}
"""Format of a folder -> some of the files that are written into it."""


def check_outputs(config: Config, graph: Graph | None, out: str | os.PathLike[str]) -> None:
    """Check that a run may write all outputs of a pipeline below ``out``; nothing is changed.

    Parameters
    ----------
    graph : gives the keys of items; None: they are unknown

    Raises
    ------
    ConfigError : listing the outputs that collide with inputs or with each other
    OutputError : listing what is in the way of outputs and must not be replaced
    """
    refuse_collisions(config, graph, out)
    root = Path(os.path.realpath(out))
    if config.outputs and root.exists() and not root.is_dir():
        raise OutputError(f"outputs below {root}: that is a file; give a folder: --out FOLDER")
    faults = []
    for output, names in _with_names(config, graph):
        if is_locked(output.path, root):
            continue  # the run judges what is there, when the run that wrote it has ended or is recovered
        files = item_files(output.path, names) if "${key}" in output.path else ()
        if output.mode == "append":
            message = obstacle_of_append(output.path, root)
        else:
            message = obstacle(output.name, output.path, output.to, root, overwrite=output.overwrite, files=files)
        if message:
            faults.append(str(_fault(output, f"got {output.path!r}: {message}")))
    if faults:
        raise OutputError("\n".join(faults))


def refuse_collisions(config: Config, graph: Graph | None, out: str | os.PathLike[str]) -> None:
    """Refuse outputs that are, contain or are inside an input or another output.

    Raises
    ------
    ConfigError : listing all of them
    """
    if not config.outputs:
        return
    root = os.path.realpath(out)
    plain, patterns = _inputs(config)
    inputs, found = Inputs(plain), _Patterns(patterns)
    faults = []
    outputs = {output.writer: output for output in config.outputs}
    for name, message in overlaps({name: output.path for name, output in outputs.items()}, Path(root)):
        faults.append(_fault(outputs[name], message))
    written: dict[str, str] = {}
    for output, names in _with_names(config, graph):
        for file in _files(output, names, plain, patterns, root):
            other = written.setdefault(file, output.name)
            message = _collision(output, os.path.join(root, file), inputs, found)
            if not message and other != output.name:
                message = f"got {output.path!r}; {file!r} is written by {other!r}, too"
            if message:
                faults.append(_fault(output, message))
                break
    if faults:
        raise ConfigError(faults)


def _fault(output: Output, message: str) -> Fault:
    place = output.path_location if output.path_location.line else output.location
    return Fault(place, f"outputs.{output.name}.path", message)


def _with_names(config: Config, graph: Graph | None) -> Iterator[tuple[Output, Sequence[str]]]:
    """Yield each output with the keys of its items, as far as they are known."""
    sinks = graph.sinks if graph is not None else ()
    for i, output in enumerate(config.outputs):
        yield output, sinks[i].item_names if i < len(sinks) else ()


def _files(
    output: Output, names: Sequence[str], inputs: Sequence[Input], patterns: Sequence[Input], root: str
) -> Iterator[str]:
    """Yield the paths that an output writes, below the root; of items with unknown keys, those that might collide."""
    if "${key}" not in output.path or names:
        yield from item_files(output.path, names) if names and "${key}" in output.path else [output.path]
        return
    before, _, after = output.path.partition("${key}")
    keys = {"0": None}
    for found in inputs:
        near = os.path.relpath(os.path.realpath(found.path), root)
        if near.startswith(before) and near.endswith(after):
            keys[near[len(before) : len(near) - len(after)]] = None
    for found in patterns:
        sample = os.path.basename(found.path).replace("*", "0").replace("?", "0")
        keys[sample.removesuffix(os.path.basename(after))] = None
    yield from item_files(output.path, [key for key in keys if key and not key.startswith("/")])


def _collision(output: Output, target: str, inputs: Inputs, patterns: _Patterns) -> str:
    """Return a message about the input that a target collides with; empty if there is none."""
    cure = "write to another path, or below another folder (--out)"
    found = inputs.collision(target)
    if found is not None:
        how, other = found
        reads = f"{other.path}, which {other.reader} reads"
        what = {"is": f"is {reads}, and would be replaced", "contains": f"contains {reads}, and would be replaced"}
        return f"got {output.path!r}, which {what.get(how, f'is inside {reads}')}: {cure}"
    for name in (target, *(os.path.join(target, sample) for sample in _SAMPLES.get(output.to, ()))):
        pattern = patterns.that_finds(name)
        if pattern is not None:
            reader = f"the pattern {pattern.path} of {pattern.reader}"
            return f"got {output.path!r}, which {reader} would match, so that the next run reads it: {cure}"
    return ""


class _Patterns:
    """The patterns by which sources find files; where folders are below those of the patterns is read once for each."""

    def __init__(self, patterns: Sequence[Input]) -> None:
        self._patterns = patterns
        self._below: dict[str, list[tuple[Input, str]]] = {}

    def that_finds(self, path: str) -> Input | None:
        """Return a pattern that would find a file with this path; None if there is none."""
        folder, name = os.path.split(path)
        if os.path.islink(path) or name in ("", ".", ".."):
            return next((pattern for pattern, rest in self._rests(path) if would_find(pattern.path, rest)), None)
        if folder not in self._below:
            self._below[folder] = [(pattern, rest[:-1]) for pattern, rest in self._rests(os.path.join(folder, "x"))]
        return next((p for p, rest in self._below[folder] if would_find(p.path, f"{rest}{name}")), None)

    def _rests(self, path: str) -> Iterator[tuple[Input, str]]:
        """Yield each pattern whose fixed folder a path is below, and the rest of the path below that folder."""
        for pattern in self._patterns:
            folder = fixed_folder(pattern.path)
            for above, rest in folders_above(path):
                same = os.path.isdir(above) and os.path.isdir(folder) and os.path.samefile(above, folder)
                if above == folder or same:
                    yield pattern, rest


def _inputs(config: Config) -> tuple[list[Input], list[Input]]:
    """Return the local files and folders that a run reads, and the patterns by which it finds files."""
    plain = [Input(name, "this pipeline") for name in config.files]
    plain += [Input(name, "modules") for name in config.shipped]
    for name in config.modules:
        plain += [Input(path, f"modules ({name})") for path in _module_files(name)]
    patterns = []
    for found in sources(replace(config, steps=config.all_steps)):  # a later run may compute what is unused in this one
        reader = f"steps.{found.step}" if found.step else f"checks[{found.check}].equals_csv"
        plain += [Input(name, reader) for name in (*found.folders, *found.files) if not is_remote(name)]
        patterns += [Input(name, reader) for name in found.patterns if not is_remote(name) and WILD.search(name)]
    return [Input(found.path.removeprefix("file://"), found.reader) for found in plain], patterns


def _module_files(name: str) -> list[str]:
    """Return the file or folder of an importable module; nothing is imported."""
    try:
        spec = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError, AttributeError):
        return []
    if spec is None:
        return []
    return list(spec.submodule_search_locations or ([spec.origin] if spec.has_location and spec.origin else []))
