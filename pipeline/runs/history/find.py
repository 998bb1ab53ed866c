"""Which run folders there are, and which of them a text such as ``NAME~1`` means."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ConfigError, printable
from pipeline.runs.folders import MARKS, STAMP
from pipeline.runs.history.read import RunFolder, read
from pipeline.units import count_text

__all__ = ["find", "runs"]

_BEFORE = re.compile(r"(.+?)~(\d{0,6})", re.ASCII)
_DEEPEST = 4  # levels of folders that are searched


def runs(folder: str | os.PathLike[str] = "runs", name: str | None = None) -> list[RunFolder]:
    """Return the run folders below a folder, the newest last.

    Parameters
    ----------
    name : of a pipeline, to get its runs only

    Raises
    ------
    ConfigError : if there is no such folder, or no run of that name; the message lists similar names
    """
    top = Path(folder)
    if not top.is_dir():
        raise ConfigError(
            f"{top}: no such folder; run folders are where --runs DIR of the run put them, else in ./runs"
        )
    found = _listed(top)
    if name is not None:
        own = [path for path in found if _name(path, top) == name.rstrip("/")]
        if not own:
            raise ConfigError(f"{top}: no run of {name!r}{_like(name, {_name(path, top) for path in found})}")
        found = own
    return [read(path, _name(path, top)) for path in found]


def find(text: str, folder: str | os.PathLike[str] = "runs") -> RunFolder:
    """Return the run folder that a text means.

    Parameters
    ----------
    text : a path, ``NAME/TIME``, ``NAME`` (the newest run) or ``NAME~1`` (the run before that)

    Raises
    ------
    ConfigError : if there is no such folder, with similar names; or it can't be read, with the reason
    """
    top = Path(folder)
    path = _found(text, top)
    inner = path.absolute().is_relative_to(top.absolute()) and path.absolute() != top.absolute()
    run = read(path, _name(path.absolute(), top.absolute()) if inner else None)
    if not run.kind:
        raise ConfigError(f"{text}: {run.problem}")
    return run


def _found(text: str, top: Path) -> Path:
    if not text or "\0" in text:
        raise ConfigError(f"got {text!r}; write a run folder, NAME/TIME, NAME, or NAME~1 for the one before")
    for path in (Path(text), top / text):
        if path.is_file() and path.name in (*MARKS, "report.html"):
            path = path.parent
        if path.is_dir() and (STAMP.fullmatch(path.name) or _is_run(path)):
            return path
    match = _BEFORE.fullmatch(text)
    name, back = (match[1], int(match[2] or 1)) if match else (text, 0)
    for series in (top / name, Path(name)):
        found = _of_one(series)
        if found and back < len(found):
            return found[-1 - back]
        if found:
            raise ConfigError(
                f"{text}: {name} has {count_text(len(found), 'run')}; the oldest is {name}~{len(found) - 1}"
            )
    for path in (top / text, Path(text)):
        if path.is_dir():
            return path  # read() reports why it is not a run folder
    known = _listed(top) if top.is_dir() else []
    names = {_name(path, top) for path in known}
    labels = {f"{_name(path, top)}/{path.name}" for path in known}
    where = f"below {top}" if top.is_dir() else f"and no folder {top}"
    raise ConfigError(f"{text}: no such run folder {where}{_like(text, names | labels)}")


def _is_run(path: Path) -> bool:
    return any((path / mark).is_file() for mark in (*MARKS, "spec.json"))


def _of_one(folder: Path) -> list[Path]:
    """Return the run folders directly below a folder, the newest last."""
    try:
        return sorted((p for p in folder.iterdir() if STAMP.fullmatch(p.name) and p.is_dir()), key=_age)
    except OSError:
        return []


def _listed(top: Path) -> list[Path]:
    """Return all run folders, the newest last."""
    return sorted(_below(top, _DEEPEST), key=lambda path: (*_age(path), str(path)))


def _below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        inner = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for entry in inner:
        if STAMP.fullmatch(entry.name):
            yield Path(entry.path)
        elif depth > 1:
            yield from _below(Path(entry.path), depth - 1)


def _age(path: Path) -> tuple[str, int]:
    """Return a sort key: the time in the folder's name, and the number behind it."""
    match = STAMP.fullmatch(path.name)
    return (match[1], int(match[2] or 1)) if match else (path.name, 1)


def _name(path: Path, top: Path) -> str:
    """Return the pipeline's name: the folders between ``top`` and the run folder."""
    return path.relative_to(top).parent.as_posix() if path.parent != top else ""


def _like(text: str, names: set[str]) -> str:
    """Return ``; did you mean 'x' or 'y'?``, else the names that there are."""
    close = difflib.get_close_matches(text, sorted(names), n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(repr(printable(name)) for name in close)}?"
    plain = sorted(name for name in names if name and not STAMP.fullmatch(name.rpartition("/")[2]))
    return f"; there are {', '.join(map(printable, plain[:8]))}" if plain else ""
