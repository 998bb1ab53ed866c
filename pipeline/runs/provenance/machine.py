"""The machine that a run was made on, and the versions of what ran.

A machine is identified by a hash of its machine id, processor, cores and memory. Rejected: the host's name and the
plain machine id (reports are passed on to others), and the boot id (it changes with each start).
"""

from __future__ import annotations

import contextlib
import functools
import hmac
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from pipeline.backends.local.child_processes import count_cores
from pipeline.backends.versions import version

__all__ = ["PACKAGES", "environment", "versions"]

PACKAGES = ("dask", "distributed", "numpy", "pandas", "pipeline", "pyarrow", "xarray", "zarr")
"""The packages that determine the results and the speed."""


def environment(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Return ``python platform machine processor cores memory versions``; memory in bytes.

    Parameters
    ----------
    packages : other packages than :data:`PACKAGES` whose versions matter; those that are not installed are left out
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
    """Return the versions of Python and of the packages that matter."""
    found = {"python": platform.python_version()}
    for package in dict.fromkeys([*PACKAGES, *(name.partition(".")[0] for name in packages)]):
        if (number := version(package)) is not None:
            found[package] = number
    return found


@functools.cache
def _processor() -> str:
    """Return the model of the processor, or its architecture if the system reports no more."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return " ".join(value.split())
    return platform.machine()


def _machine(processor: str, cores: int, memory: int) -> str:
    """Return 48 bits in hex; memory is rounded to GiB, since the kernel reserves a varying part of it."""
    number = ""
    for file in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError):
            number = number or Path(file).read_text(errors="replace").strip()
    about = f"{processor}\0{cores}\0{round(memory / 2**30)}"
    return hmac.new(number.encode(), f"pipeline\0{about}".encode(), "sha256").hexdigest()[:12]
