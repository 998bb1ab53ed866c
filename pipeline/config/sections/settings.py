"""Sections that name no step: modules, storage, cluster, compare."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.config.fault_collector import ConfigFault, FaultCollector
from pipeline.config.interpolation import Params, Scope, fill
from pipeline.config.op_parameters import located
from pipeline.config.yaml_nodes import Node
from pipeline.errors import nearest

__all__ = ["importable_names", "modules", "section"]

_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "cluster": (
        *("workers", "threads_per_worker", "memory_limit", "address", "class", "kwargs", "scale", "adapt", "insecure"),
        "page",
    ),
    "compare": ("backends", "repeat", "reference"),
}
_COUNT = "a whole number >= 1"
_VALUES: Mapping[tuple[str, str], tuple[Callable[[Any], bool], str]] = {
    ("cluster", "workers"): (lambda got: got == "auto" or _is_count(got), f"{_COUNT}, or auto"),
    ("cluster", "threads_per_worker"): (lambda got: _is_count(got), _COUNT),
    ("cluster", "memory_limit"): (lambda got: _is_memory(got), "bytes, or a text like 4GB, or auto"),
    ("cluster", "address"): (lambda got: got is None or isinstance(got, str), "an address: tcp://host:8786"),
    ("cluster", "class"): (lambda got: isinstance(got, str) and ":" in got, '"module:Class"'),
    ("cluster", "kwargs"): (lambda got: isinstance(got, dict), "a map of keyword arguments"),
    ("cluster", "scale"): (lambda got: _is_count(got) or isinstance(got, dict), f"{_COUNT}, or a map"),
    ("cluster", "adapt"): (lambda got: isinstance(got, dict), "a map: {minimum: 1, maximum: 10}"),
    ("cluster", "insecure"): (lambda got: isinstance(got, bool), "true or false"),
    ("cluster", "page"): (lambda got: isinstance(got, bool), "true or false"),
    ("compare", "backends"): (lambda got: _are_texts(got), "a list of back ends: [processes, dask]"),
    ("compare", "repeat"): (lambda got: _is_count(got), _COUNT),
    ("compare", "reference"): (
        lambda got: isinstance(got, dict) and list(got) == ["call"] and isinstance(got["call"], str),
        '{call: "module:function"}',
    ),
}
"""Section and key -> whether a value fits, and what does."""


def section(name: str, node: Node | None, params: Params) -> dict[str, Any]:
    """A map of the top level as plain Python.

    Raises
    ------
    Wrong : if it is no map, or has a key that it can't have
    """
    if node is None:
        return {}
    if not node.is_map:
        raise ConfigFault(node.location, name, f"got {node.said}; write a map")
    allowed = _SECTIONS.get(name)
    for key, inner in node.value.items():
        if allowed is not None and key not in allowed:
            said = f"unknown key; allowed: {', '.join(allowed)}{nearest(key, allowed)}"
            raise ConfigFault(node.keys[key], f"{name}.{key}", said)
        if name == "storage" and not inner.is_map:
            raise ConfigFault(inner.location, f"storage.{key}", f"got {inner.said}; write a map of fsspec options")
    got: dict[str, Any] = fill(node, name, Scope(params))
    for key, value in got.items():
        fits, wanted = _VALUES.get((name, key), (None, ""))
        if fits is not None and not fits(value):
            inner = node.value[key]
            said = f"{inner.said}, which is {value!r}" if "${" in inner.text else inner.said
            raise ConfigFault(inner.location, f"{name}.{key}", f"got {said}; write {wanted}")
    return got


def _is_count(got: Any) -> bool:
    return type(got) is int and got >= 1


def _is_memory(got: Any) -> bool:
    if isinstance(got, str):
        return got == "auto" or re.fullmatch(r"\s*\d+(\.\d+)?\s*([kKMGTP]i?)?B?\s*", got) is not None
    return not isinstance(got, bool) and isinstance(got, int | float) and 0 <= got < 2**63


def _are_texts(got: Any) -> bool:
    return isinstance(got, list) and all(isinstance(one, str) for one in got)


def modules(node: Node | None, params: Params, faults: FaultCollector) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Importable names, and absolute paths of what is to be shipped."""
    importable: list[str] = []
    shipped: list[str] = []
    if node is None:
        return (), ()
    if not node.is_list:
        faults.add(node.location, "modules", f"got {node.said}; write a list: [scipy.ndimage, ./my.py]")
        return (), ()
    for i, inner in enumerate(node.value):
        with faults.caught():
            path = f"modules[{i}]"
            text = fill(inner, path, Scope(params))
            if not isinstance(text, str) or not text:
                raise ConfigFault(inner.location, path, f"got {inner.said}; write an importable name, or ./file.py")
            if text.startswith((".", "/")) or text.endswith((".py", "/")):
                shipped.append(_shipped(text, inner, path))
            elif re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", text):
                importable.append(text)
            else:
                raise ConfigFault(inner.location, path, f"got {inner.said}; write an importable name, or ./file.py")
    return tuple(dict.fromkeys(importable)), tuple(dict.fromkeys(shipped))


def _shipped(text: str, node: Node, path: str) -> str:
    full = located(text, node.folder)
    name = os.path.basename(full)
    if not os.path.exists(full):
        raise ConfigFault(node.location, path, f"there is no {full}")
    if os.path.isfile(full) and not name.endswith(".py"):
        raise ConfigFault(node.location, path, f"got {text!r}; a module is a .py file or a folder")
    if not name.removesuffix(".py").isidentifier():
        raise ConfigFault(node.location, path, f"{name!r} can't be imported: its name is no Python name")
    return full


def importable_names(importable: Sequence[str], shipped: Sequence[str]) -> frozenset[str]:
    """The names by which a call may name its module."""
    return frozenset([*importable, *(os.path.basename(p).removesuffix(".py") for p in shipped)])
