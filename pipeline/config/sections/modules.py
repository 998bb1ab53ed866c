"""The section ``modules``: what calls may import, and which files go to the workers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from pipeline.config.absolute_paths import absolute_path
from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Params, Scope, interpolate
from pipeline.config.user_functions import Functions, require_module
from pipeline.config.yaml_nodes import Node
from pipeline.errors import nearest

__all__ = ["importable_names", "modules"]


def modules(
    node: Node | None, params: Params, functions: Functions, faults: FaultCollector
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the importable names, and the absolute paths of what is to be sent to the workers; errors are noted."""
    importable: list[str] = []
    shipped: list[str] = []
    if node is None:
        return (), ()
    if not node.is_list:
        faults.add(node.location, "modules", f"got {node.shown}; write a list: [scipy.ndimage, ./my.py]")
        return (), ()
    for i, inner in enumerate(node.value):
        with faults.caught():
            path = f"modules[{i}]"
            text = interpolate(inner, path, Scope(params))
            if isinstance(text, str) and (text.startswith((".", "/")) or text.endswith((".py", "/"))):
                shipped.append(_shipped(text, inner, path))
            elif isinstance(text, str) and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", text):
                require_module(text, functions, inner.location, path)
                importable.append(text)
            else:
                raise ConfigFault(inner.location, path, f"got {inner.shown}; write an importable name, or ./file.py")
    return tuple(dict.fromkeys(importable)), tuple(dict.fromkeys(shipped))


def _shipped(text: str, node: Node, path: str) -> str:
    full = absolute_path(text, node.folder)
    name = os.path.basename(full)
    if not os.path.exists(full):
        raise ConfigFault(node.location, path, f"there is no {full}{_similar(full)}")
    if os.path.isfile(full) and not name.endswith(".py"):
        raise ConfigFault(node.location, path, f"got {text!r}; a module is a .py file or a folder")
    if not name.removesuffix(".py").isidentifier():
        raise ConfigFault(node.location, path, f"{name!r} can't be imported: its name can't be a name in Python")
    return full


def _similar(path: str) -> str:
    """Return ``; did you mean …?`` for a module of a similar name beside it."""
    folder, name = os.path.split(path.rstrip("/"))
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        return ""
    return nearest(name, [one for one in entries if one.endswith(".py") or os.path.isdir(os.path.join(folder, one))])


def importable_names(importable: Sequence[str], shipped: Sequence[str]) -> frozenset[str]:
    """Return the names by which a call may name its module."""
    return frozenset([*importable, *(os.path.basename(path).removesuffix(".py") for path in shipped)])
