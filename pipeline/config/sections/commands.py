"""What is a command's own: the program with its arguments, and what it gets and leaves."""

from __future__ import annotations

import posixpath
from typing import Any

from pipeline.config.absolute_paths import located
from pipeline.config.fault_collector import ConfigFault
from pipeline.config.interpolation import fill
from pipeline.config.model import Command, ItemKey, Over, Reference, Template
from pipeline.config.scalars import no_name
from pipeline.config.sections.calls import over
from pipeline.config.sections.keys import CommandKeys
from pipeline.config.step_context import InstanceReader
from pipeline.config.step_syntax import ParsedStep
from pipeline.config.step_syntax import reference as bare_reference
from pipeline.config.yaml_nodes import Node

__all__ = ["STREAMS", "command", "parts"]

STREAMS = ("stdout", "stderr", "returncode")
"""The parts that every command has."""


def parts(draft: ParsedStep) -> tuple[str, ...]:
    """The names of a command's parts."""
    files = draft.node.value.get("files")
    return (*STREAMS, *(files.value if files is not None and files.is_map else ()))


def command(copy: InstanceReader) -> dict[str, Any]:
    """The fields of :class:`pipeline.config.model.Step` that only a command has; what is wrong is noted."""
    faults = copy.context.faults
    mapped = None
    with faults.caught():
        mapped = _over(copy)
    argv: tuple[Any, ...] = ()
    with faults.caught():
        argv = _argv(copy)
    stdin = None
    with faults.caught():
        stdin = _stdin(copy)
    keys = copy.keys(CommandKeys)
    made = Command(
        argv=argv,
        cwd=located(keys.cwd, copy.node.value["cwd"].folder) if keys.cwd else "",
        env=_env(copy),
        stdin=stdin,
        files=_files(copy, shared=bool(keys.cwd) and mapped is not None),
        check=keys.check,
    )
    program = argv[0] if argv and isinstance(argv[0], str) else copy.draft.function
    named = {"function": posixpath.basename(program) or program}
    return {**named, "command": made, "over": mapped, "parts": (*STREAMS, *made.files)}


def _over(copy: InstanceReader) -> Over | None:
    found = over(copy)
    if found is not None and isinstance(found.maps, Reference):
        node = copy.node.value["over"]
        raise ConfigFault(
            node.location,
            f"{copy.path}.over",
            f"got {node.said}; a command has no keywords to spread maps to: write {{name: {node.text}}}, and ${{name}} "
            "where it goes",
        )
    return found


def _argv(copy: InstanceReader) -> tuple[Any, ...]:
    """The program and its arguments; a program with a ``/`` in its name lies below the file's folder."""
    node = copy.node.value["command"]
    argv: list[Any] = []
    for i, inner in enumerate(node.value):
        path = f"{copy.path}.command[{i}]"
        with copy.context.faults.caught():
            got = fill(inner, path, copy.scope, run=True)
            if isinstance(got, Reference | ItemKey | Template):
                argv.append(got)
            else:
                argv += _texts(got, inner, path)
    program = node.value[0]
    if argv and isinstance(argv[0], str) and "/" in argv[0]:
        argv[0] = located(argv[0], program.folder)
    if argv and argv[0] == "":
        raise ConfigFault(program.location, f"{copy.path}.command[0]", "got an empty text; the first is the program")
    return tuple(argv)


def _texts(got: Any, node: Node, path: str) -> list[Any]:
    """One argument; of a list its values, each one by itself."""
    some = got if isinstance(got, list) else [got]
    for one in some:
        if one is None or isinstance(one, list | dict):
            kind = "null" if one is None else "a map" if isinstance(one, dict) else "a list within a list"
            raise ConfigFault(node.location, path, f"got {kind}; an argument is text or a number, or a list of them")
        if isinstance(one, str) and "\0" in one:
            raise ConfigFault(node.location, path, "got a text with the character \\0, which no argument can hold")
    return some


def _stdin(copy: InstanceReader) -> ItemKey | None:
    """The key of ``over`` that goes to the program; a step that does is among the inputs."""
    node = copy.node.value.get("stdin")
    if node is None:
        return None
    text = bare_reference(node, f"{copy.path}.stdin")
    if text.name in copy.draft.over:
        return ItemKey(text.name, (text.part,) if text.part else ())
    return None


def _env(copy: InstanceReader) -> dict[str, Any]:
    node, path, faults = copy.node.value.get("env"), f"{copy.path}.env", copy.context.faults
    found: dict[str, Any] = {}
    if node is None:
        return found
    if not node.is_map:
        faults.add(node.location, path, f"got {node.said}; write a map: {{NAME: value}}")
        return found
    for name, inner in node.value.items():
        with faults.caught():
            if not name or "=" in name or "\0" in name:
                raise ConfigFault(
                    node.keys[name], f"{path}.{name}", f"{name!r} can't name a variable of the environment"
                )
            got = fill(inner, f"{path}.{name}", copy.scope, run=True)
            if not isinstance(got, Reference | ItemKey | Template):
                (got,) = _texts([got], inner, f"{path}.{name}")
            found[name] = got
    return found


def _files(copy: InstanceReader, *, shared: bool) -> dict[str, str]:
    """Part -> path below the folder that the program runs in; ``shared``: many items run in one folder."""
    node, path, faults = copy.node.value.get("files"), f"{copy.path}.files", copy.context.faults
    found: dict[str, str] = {}
    if node is None:
        return found
    if not node.is_map:
        faults.add(node.location, path, f"got {node.said}; write a map: {{png: plot.png}}")
        return found
    if shared:
        faults.add(node.location, path, "with cwd all items would write the same files; without it each has a folder")
    for name, inner in node.value.items():
        here = f"{path}.{name}"
        with faults.caught():
            if said := no_name(name):
                raise ConfigFault(node.keys[name], here, said)
            if name in STREAMS:
                raise ConfigFault(node.keys[name], here, f"every command has the part {name!r} already")
            where = fill(inner, here, copy.scope)
            if not isinstance(where, str) or not where.strip() or posixpath.normpath(where) == ".":
                raise ConfigFault(inner.location, here, f"got {inner.said}; write the path of a file")
            if where.startswith(("/", "~")) or ".." in where.split("/"):
                raise ConfigFault(
                    inner.location, here, f"got {where!r}; it lies below the folder that the program runs in"
                )
            found[name] = posixpath.normpath(where)
    return found
