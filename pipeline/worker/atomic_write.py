"""Write a file that appears, or replaces another, only when it is complete."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import WriteError

__all__ = ["replacing", "write_errors", "write_json", "write_text"]


@contextmanager
def write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise what the system reports inside the block, which writes a file, as an error that names ``path``.

    Raises
    ------
    WriteError : instead of an OSError
    """
    try:
        yield
    except OSError as error:
        raise WriteError.of(path, error) from error


@contextmanager
def replacing(path: Path, *, shown: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Yield the path of a new file that replaces ``path`` in one step when the block ends.

    Several processes may do this for one path; the last one wins. After an error the new file is removed and ``path``
    is unchanged. The file is not synced to the disk.

    Parameters
    ----------
    shown : the path that an error names; default: ``path``

    Raises
    ------
    WriteError : the file can't be written
    """
    # the name must not grow with the target's, which may be as long as a name can be
    partial = path.with_name(f".partial-{uuid.uuid4().hex}")
    with write_errors(shown or path):
        try:
            yield partial
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text as a file in UTF-8; readers see the old file or the whole new one.

    Raises
    ------
    WriteError : the file can't be written
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Write a JSON file as :func:`write_text` does, with a line for each key or element; what JSON lacks becomes text.

    Deeper levels are not indented: Python's fast encoder can't, and a run waits for this.
    """
    if isinstance(value, Mapping):
        start, end = "{}"
        lines = [f"{_compact(key)}: {_compact(item)}" for key, item in value.items()]
    else:
        start, end = "[]"
        lines = [_compact(item) for item in value]
    write_text(path, "\n".join((start, ",\n".join(lines), end, "")))


def _compact(value: Any) -> str:
    return json.dumps(value, default=str, allow_nan=False)
