"""Hashes of the code that ran: the user's modules, and Pipeline itself."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.backends.versions import own_digest
from pipeline.graph.importing import BY_VALUE, FunctionValues
from pipeline.runs.provenance.inputs import UNKNOWN

if TYPE_CHECKING:
    from pipeline.config.model import Config
    from pipeline.graph.graph import Graph


__all__ = ["code_hashes", "named"]

_MOST_SOURCES = 1_000  # files of one package of the user


def code_hashes(graph: Graph, config: Config | None = None) -> dict[str, str]:
    """Return the SHA-256 of each source file that ran: shipped modules, modules that calls name, and Pipeline itself.

    Nothing is imported. Of an installed package only the named module is hashed, since its version is recorded as well;
    of a package in the user's own folders every source file.
    """
    found: dict[str, str] = {}
    for name, source in graph.modules.items():
        if isinstance(source, FunctionValues):
            found |= {function: code or UNKNOWN for function, code in source.identities.items()}
        elif not name.startswith(f"{BY_VALUE}/"):
            found[name] = hashlib.sha256(source).hexdigest()
    shipped = {name.partition("/")[0].removesuffix(".py") for name in graph.modules}
    for module in named(config):
        if module.partition(".")[0] not in shipped:
            for name, file in _sources(module).items():
                with contextlib.suppress(OSError):
                    found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return {**dict(sorted(found.items())), "pipeline": own_digest()}


def named(config: Config | None) -> list[str]:
    """Return the modules that a file names, in its order, and those of ops from other distributions."""
    if config is None:
        return []
    functions = [step.function for step in config.steps.values() if step.kind == "call"]
    functions += [getattr(step.parameters, "function", "") for step in config.steps.values() if step.kind == "op"]
    built = [type(step.parameters).function_path() for step in config.steps.values() if step.kind == "op"]
    functions += [path for path in built if not path.startswith("pipeline.ops.")]
    functions.append(str((config.compare.get("reference") or {}).get("call", "")))
    modules = [text.partition(":")[0] for text in functions if isinstance(text, str) and ":" in text]
    return list(dict.fromkeys([*config.modules, *modules]))


def _sources(module: str) -> dict[str, Path]:
    """Return the source files of a module, by their paths below the folder that it is imported from."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return {}
    if spec is None:
        return {}
    if not spec.submodule_search_locations:
        file = Path(spec.origin or "")
        return {file.name: file} if file.is_file() else {}
    folder = Path(next(iter(spec.submodule_search_locations)))
    if str(folder).startswith(_installed()):
        inner = folder.joinpath(*rest)
        files = [file for file in (inner / "__init__.py", inner.with_name(f"{inner.name}.py")) if file.is_file()]
    else:
        files = sorted(folder.rglob("*.py"))[:_MOST_SOURCES]
    return {file.relative_to(folder.parent).as_posix(): file for file in files}


@functools.cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))
