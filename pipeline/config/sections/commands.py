"""The keys that only a command has: the program with its arguments, what it reads, and the files that it writes."""

from __future__ import annotations

import posixpath
from typing import Any

from pipeline.config.absolute_paths import absolute_path
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import interpolate
from pipeline.config.model import Command, ItemKey, Over, Reference, Template
from pipeline.config.scalars import name_error
from pipeline.config.sections.calls import read_over
from pipeline.config.sections.keys import CommandKeys
from pipeline.config.step_context import InstanceReader
from pipeline.config.step_syntax import ParsedStep, parse_bare_reference
from pipeline.config.yaml_nodes import Node

__all__ = ["STREAMS", "command_fields", "command_parts"]

STREAMS = ("stdout", "stderr", "returncode")
"""The parts that every command has."""


def command_parts(parsed: ParsedStep) -> tuple[str, ...]:
    """Return the names of a command's parts."""
    files = parsed.node.value.get("files")
    return (*STREAMS, *(files.value if files is not None and files.is_map else ()))


def command_fields(reader: InstanceReader) -> dict[str, Any]:
    """Return the fields of :class:`pipeline.config.model.Step` that only a command has; errors are noted."""
    faults = reader.context.faults
    over = None
    with faults.caught():
        over = _over(reader)
    argv: tuple[Any, ...] = ()
    with faults.caught():
        argv = _argv(reader)
    stdin = None
    with faults.caught():
        stdin = _stdin(reader)
    keys = reader.keys(CommandKeys)
    command = Command(
        argv=argv,
        cwd=absolute_path(keys.cwd, reader.node.value["cwd"].folder) if keys.cwd else "",
        env=_env(reader),
        stdin=stdin,
        files=_files(reader, shared=bool(keys.cwd) and over is not None),
        check=keys.check,
    )
    program = argv[0] if argv and isinstance(argv[0], str) else reader.parsed.function
    function = posixpath.basename(program) or program
    return {"function": function, "command": command, "over": over, "parts": (*STREAMS, *command.files)}


def _over(reader: InstanceReader) -> Over | None:
    over = read_over(reader)
    if over is not None and isinstance(over.maps, Reference):
        node = reader.node.value["over"]
        cure = f"write {{name: {node.text}}}, and ${{name}} where it goes"
        message = f"got {node.shown}; a command has no keywords to spread maps to: {cure}"
        raise ConfigFault(node.location, f"{reader.path}.over", message)
    return over


def _argv(reader: InstanceReader) -> tuple[Any, ...]:
    """Return the program and its arguments; a program with a ``/`` in its name is relative to the file's folder."""
    node = reader.node.value["command"]
    argv: list[Any] = []
    for i, inner in enumerate(node.value):
        path = f"{reader.path}.command[{i}]"
        with reader.context.faults.caught():
            got = interpolate(inner, path, reader.scope, run=True)
            if isinstance(got, Reference | ItemKey | Template):
                argv.append(got)
            else:
                argv += _arguments(got, inner, path)
    program = node.value[0]
    if argv and isinstance(argv[0], str) and "/" in argv[0]:
        argv[0] = absolute_path(argv[0], program.folder)
    if argv and argv[0] == "":
        raise ConfigFault(program.location, f"{reader.path}.command[0]", "got an empty text; the first is the program")
    return tuple(argv)


def _arguments(got: Any, node: Node, path: str) -> list[Any]:
    """Return one argument, or of a list each of its values as one."""
    values = got if isinstance(got, list) else [got]
    for value in values:
        if value is None or isinstance(value, list | dict):
            kind = "null" if value is None else "a map" if isinstance(value, dict) else "a list within a list"
            raise ConfigFault(node.location, path, f"got {kind}; an argument is text or a number, or a list of them")
        if isinstance(value, str) and "\0" in value:
            message = "got a text with the character \\0, which an argument can't contain"
            raise ConfigFault(node.location, path, message)
    return values


def _stdin(reader: InstanceReader) -> ItemKey | None:
    """Return the key of ``over`` that the program reads; a step that it reads is among the inputs."""
    node = reader.node.value.get("stdin")
    if node is None:
        return None
    text = parse_bare_reference(node, f"{reader.path}.stdin")
    if text.name in reader.parsed.over:
        return ItemKey(text.name, tuple(text.part.split(".")) if text.part else ())
    return None


def _env(reader: InstanceReader) -> dict[str, Any]:
    node, path, faults = reader.node.value.get("env"), f"{reader.path}.env", reader.context.faults
    found: dict[str, Any] = {}
    if node is None:
        return found
    if not node.is_map:
        faults.add(node.location, path, f"got {node.shown}; write a map: {{NAME: value}}")
        return found
    for name, inner in node.value.items():
        here = f"{path}.{name}"
        with faults.caught():
            if not name or "=" in name or "\0" in name:
                message = f"{name!r} can't be the name of an environment variable"
                raise ConfigFault(node.keys[name], here, message)
            got = interpolate(inner, here, reader.scope, run=True)
            if not isinstance(got, Reference | ItemKey | Template):
                (got,) = _arguments([got], inner, here)
            found[name] = got
    return found


def _files(reader: InstanceReader, *, shared: bool) -> dict[str, str]:
    """Return part -> path below the folder that the program runs in; ``shared``: many items run in one folder."""
    node, path, faults = reader.node.value.get("files"), f"{reader.path}.files", reader.context.faults
    found: dict[str, str] = {}
    if node is None:
        return found
    if not node.is_map:
        faults.add(node.location, path, f"got {node.shown}; write a map: {{png: plot.png}}")
        return found
    if shared:
        faults.add(node.location, path, "with cwd all items would write the same files; without it each has a folder")
    for name, inner in node.value.items():
        here = f"{path}.{name}"
        with faults.caught():
            if message := name_error(name):
                raise ConfigFault(node.keys[name], here, message)
            if name in STREAMS:
                raise ConfigFault(node.keys[name], here, f"every command has the part {name!r} already")
            file = interpolate(inner, here, reader.scope)
            if not isinstance(file, str) or not file.strip() or posixpath.normpath(file) == ".":
                raise ConfigFault(inner.location, here, f"got {inner.shown}; write the path of a file")
            if file.startswith(("/", "~")) or ".." in file.split("/"):
                message = f"got {file!r}; write a path below the folder that the program runs in"
                raise ConfigFault(inner.location, here, message)
            found[name] = posixpath.normpath(file)
    return found
