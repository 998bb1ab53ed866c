"""Write a file that appears, or replaces another, only when it is complete."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a new file that replaces ``path`` in one step when the block ends.

    Several processes may do this for one path; the last one wins. After an error the new file is removed and ``path``
    is unchanged. The file is not synced to the disk.
    """
    # the name must not grow with the target's, which may be as long as a name can be
    partial = path.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
