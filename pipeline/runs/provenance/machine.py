"""The machine that a run was made on, and the versions of what ran.

A machine is told from others by a hash of its number, processor, cores and memory. Rejected: the host's name and the
machine's number as they are (a report is passed on), and the boot id (it is another one after each start).
"""

from __future__ import annotations

import contextlib
import functools
import hmac
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from pipeline.backends.local.child_processes import count_cores

__all__ = ["PACKAGES", "environment", "versions"]

PACKAGES = ("dask", "distributed", "numpy", "pandas", "pipeline", "pyarrow", "xarray", "zarr")
"""The packages that decide what comes out, and how fast."""


def environment(packages: Iterable[str] = ()) -> dict[str, Any]:
    """The machine and the versions: ``python platform machine processor cores memory versions``; memory in bytes.

    Parameters
    ----------
    packages : besides :data:`PACKAGES`, those whose version matters; left out where they are not installed
    """
    processor, cores, memory = _processor(), count_cores(), int(psutil.virtual_memory().total)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": _machine(processor, cores, memory),
        "processor": processor,
        "cores": cores,
        "memory": memory,
        "versions": {name: text for name, text in versions(packages).items() if name != "python"},
    }


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Versions of Python and of the packages that decide what comes out."""
    found = {"python": platform.python_version()}
    for package in dict.fromkeys([*PACKAGES, *(name.partition(".")[0] for name in packages)]):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


@functools.cache
def _processor() -> str:
    """The model of the processor; of the kind alone where the system does not say more."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return " ".join(value.split())
    return platform.machine()


def _machine(processor: str, cores: int, memory: int) -> str:
    """48 bits, in hex; memory to the GiB, since the kernel keeps a little for itself, and not always the same."""
    number = ""
    for file in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError):
            number = number or Path(file).read_text(errors="replace").strip()
    about = f"{processor}\0{cores}\0{round(memory / 2**30)}"
    return hmac.new(number.encode(), f"pipeline\0{about}".encode(), "sha256").hexdigest()[:12]
