"""A naive back end, on which the harness must fail: a plain Pool that writes in place and cleans up only at the end.

    python naive.py WANTED OUT

Its results are the files below WANTED.
"""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from multiprocessing import get_context
from pathlib import Path

__all__ = ["main"]


def write(wanted: Path, target: Path) -> None:
    with open(os.environ["CHAOS_EVENTS"], "a") as file:
        file.write(f"task {os.getpid()}\n")
    data = wanted.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        time.sleep(0.2)
        file.write(data[len(data) // 2 :])


def main(wanted: Path, out: Path) -> None:
    os.close(os.open(out / ".naive.lock", os.O_CREAT | os.O_EXCL))
    scratch = tempfile.mkdtemp()
    shared = Path(f"/dev/shm/naive-{os.getpid()}")
    shared.write_bytes(os.fsencode(out).ljust(4096, b"\0"))  # so that the test knows what to remove
    program = subprocess.Popen(["sleep", "600"])
    with open(shared, "r+b") as file, mmap.mmap(file.fileno(), 0), get_context("spawn").Pool(2) as pool:
        files = [path for path in sorted(wanted.rglob("*")) if path.is_file()]
        pool.starmap(write, [(path, out / path.relative_to(wanted)) for path in files], chunksize=1)
    program.kill()
    shared.unlink()
    shutil.rmtree(scratch)
    (out / ".naive.lock").unlink()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except BaseException:  # noqa: BLE001  (as naive programs do)
        traceback.print_exc()
        sys.exit(1)
