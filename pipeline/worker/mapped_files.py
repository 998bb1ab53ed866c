"""Files as memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
from functools import lru_cache

__all__ = ["is_local", "map_file"]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_MAP_FIXED = 0x10
_FAILED = ctypes.c_void_p(-1).value

_LOCAL = frozenset(["ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "zfs", "f2fs", "overlay", "bcachefs"])


def map_file(descriptor: int, size: int) -> memoryview:
    """Return the first ``size`` bytes of a file as memory; writing to it does not change the file.

    The file may be closed and removed. It must not become shorter: reading what it lacks ends the process.

    Raises
    ------
    OSError : if it can't be mapped
    """
    # mmap keeps its file open as long as the mapping lives: with a thousand arrays, a task could open no file any more.
    # So it gets memory without a file, in whose place the file is mapped; it takes away both in the end.
    mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    place = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    flags = mmap.MAP_PRIVATE | _MAP_FIXED
    if _libc.mmap(place, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, descriptor, 0) == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return memoryview(mapping)


@lru_cache(maxsize=64)
def is_local(folder: str) -> bool:
    """Return whether a folder is on a disk of this machine; False where that is unknown.

    A file of another machine can become shorter, or go, while it is mapped.
    """
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.split(" - ") for line in file]
    except OSError:
        return False
    path = os.path.realpath(folder)
    found = (0, "")
    for before, after in lines:  # a later one may be mounted over an earlier one; a blank in a path is written \\040
        mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])
        if os.path.commonpath([mount, path]) == mount and len(mount) >= found[0]:
            found = len(mount), after.split()[0]
    return found[1] in _LOCAL
