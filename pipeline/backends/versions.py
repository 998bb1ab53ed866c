"""Compare what a worker on another machine has installed, and the folders that it sees, with what is here.

With other versions of Python or of the libraries pickles break late and strangely, and without a shared folder outputs
are written to another disk.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
import secrets
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["PACKAGES", "boot_id", "differences", "installed", "marker", "own_digest", "version"]

PACKAGES = ("dask", "numpy", "pandas", "pyarrow", "cloudpickle")
"""What the pickles of tasks and values are made with."""


def installed(packages: Sequence[str], marker: str) -> dict[str, Any]:
    """Return the versions that a process has installed, and what it reads in the file ``marker``."""
    # it is sent by value to processes that lack this package, so it must bring its imports
    import importlib.metadata
    import sys
    from pathlib import Path

    found: dict[str, Any] = {"python": "{}.{}".format(*sys.version_info)}
    try:
        own: Any = importlib.import_module("pipeline.backends.versions")
        found |= {name: own.version(name) for name in packages}
        found["pipeline"] = own.own_digest()[:12]
    except (ImportError, AttributeError):
        try:
            importlib.import_module("pipeline")
            found["pipeline"] = "another version"
        except ImportError:
            found["pipeline"] = None
        for name in packages:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = None
    if marker:
        try:
            found["marker"] = Path(marker).read_text()
        except OSError:
            found["marker"] = None
    return found


@functools.cache
def version(package: str) -> str | None:
    """Return the version of an installed package; None if there is none. What a process has imported stays the same."""
    import importlib.metadata  # slow to import, and most commands need no version

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def own_digest() -> str:
    """Return the SHA-256 of the source files of this package, as they were when this process first asked."""
    folder = Path(__file__).parents[1]
    if folder.is_dir():
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.py")}
    else:  # it was shipped to this worker
        with zipfile.ZipFile(folder.parent) as archive:
            files = {n.partition("/")[2]: archive.read(n) for n in archive.namelist() if n.endswith(".py")}
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.encode() + b"\0" + files[file])
    return digest.hexdigest()


def differences(there: Mapping[str, Any], here: Mapping[str, Any], exact: Collection[str]) -> Iterator[str]:
    """Yield what differs from the versions here, each with the name of the package.

    Parameters
    ----------
    exact : packages whose whole version must be the same; of the others it is the first two numbers
    """
    for name, ours in here.items():
        got = there[name]
        if name == "pipeline":
            if got not in (None, ours):
                yield "pipeline differs from the version here: install the same version, or restart the worker"
        elif got is None or (ours != got if name in exact else _minor(ours) != _minor(got)):
            yield f"{name} {got or 'is missing'}; here it is {ours}"


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


@contextlib.contextmanager
def marker(staging: str) -> Iterator[tuple[str, str]]:
    """Write a file that only processes see that share the folder; yield its path and content, or empty texts.

    Parameters
    ----------
    staging : the folder that outputs are written to; empty or an address of an object store: nothing is written
    """
    folder = Path(staging)
    if not staging or "://" in staging or not folder.is_dir():
        yield "", ""
        return
    path, content = folder / f".probe-{secrets.token_hex(8)}", secrets.token_hex(16)
    path.write_text(content)
    try:
        yield str(path.resolve()), content
    finally:
        path.unlink(missing_ok=True)


def boot_id() -> str:
    """Return the id of this boot of this machine; processes with the same id share the clock ``perf_counter``."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()
