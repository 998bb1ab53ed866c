"""The scratch folder of an explanation: deleted at the end, or, if it was killed, by the next explanation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.worker.temp_folders import Folder

__all__ = ["scratch_folder"]


@contextlib.contextmanager
def scratch_folder(runs: Path) -> Iterator[Path]:
    """Make a locked folder below the runs folder; delete it at the end, and the runs folder if it was made for it.

    Raises
    ------
    OutputError : if the folder can't be made
    """
    made = not runs.exists()
    try:
        runs.mkdir(parents=True, exist_ok=True)
        folder = Folder(".explain", runs.resolve())
    except OSError as error:
        raise OutputError(f"the scratch folder can't be made: {error}") from error
    try:
        with folder:
            yield Path(folder.path)
    finally:
        if made:
            with contextlib.suppress(OSError):  # there is something else in it by now
                runs.rmdir()
