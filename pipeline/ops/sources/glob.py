"""Local files by pattern or by folder.

Each folder is listed once, and files need no further system call. A search is limited: a pattern over a whole disk is a
mistake, and building would seem to hang.

Rejected: ``glob``, which finds a file once for each way that ``**`` leads to it, checks each file by itself, and
follows a link to a folder above about forty times.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator

from pipeline.errors import DataError

__all__ = ["WILD", "fixed_folder", "matching", "within", "would_find"]

WILD = re.compile(r"[*?\[]")
"""The characters that make a path a pattern."""

_MOST_SEEN = 500_000  # files and folders; listing them takes some seconds


def fixed_folder(pattern: str) -> str:
    """Return the folders of a pattern before its first wildcard.

    >>> fixed_folder("/data/2020/*.csv"), fixed_folder("/data/x.csv")
    ('/data/2020', '/data')
    """
    wild = WILD.search(pattern)
    return os.path.dirname(pattern[: wild.start()] if wild else pattern)


def matching(pattern: str) -> list[str]:
    """Return the files that match a pattern with ``* ? [] **``, sorted, each once.

    Wildcards do not match hidden names; ``**`` matches any number of folders. A link to a folder is followed unless it
    leads to a folder above it. A folder that can't be read counts as empty.

    Raises
    ------
    DataError : more than 500,000 files and folders have been searched
    """
    folder = fixed_folder(pattern)
    parts = [part for part in pattern[len(folder) :].split("/") if part]
    if parts[-1] == "**":
        parts.append("*")
    if pattern.endswith("/"):  # folders only
        return []
    tests = [_test(part) for part in parts]
    found: set[str] = set()
    seen = 0
    todo = [(folder, {0})]  # folders, each with the numbers of the parts that names in it may match
    while todo:
        here, places = todo.pop()
        for place in sorted(places):
            while parts[place] == "**":  # no folder at all
                place += 1
                places.add(place)
        below: dict[str, set[int]] = {}
        names = _listed(here) if any(WILD.search(parts[place]) for place in places) else None
        for entry in names or ():
            seen += 1
            hidden = entry.name.startswith(".")
            further = {place + (parts[place] != "**") for place in places if tests[place](entry.name, hidden)}
            if len(parts) in further and _is(entry.is_file):
                found.add(os.path.join(here, entry.name))
            further.discard(len(parts))
            if further and _is(entry.is_dir) and not (entry.is_symlink() and _above(entry.path, here)):
                below[entry.name] = further
        if seen > _MOST_SEEN:
            raise _too_many(pattern, folder)
        for place in places:
            if not WILD.search(parts[place]) and (names is None or parts[place] in (".", "..")):
                path = os.path.join(here, parts[place])
                if place + 1 < len(parts):
                    below.setdefault(parts[place], set()).add(place + 1)
                elif os.path.isfile(path):
                    found.add(path)
        todo += [(os.path.join(here, name), further) for name, further in below.items()]
    return sorted(found)


def would_find(pattern: str, name: str) -> bool:
    """Return whether :func:`matching` would find a file with this path below the pattern's fixed folder.

    >>> would_find("/data/**/*.csv", "a/b/x.csv"), would_find("/data/*.csv", "a/x.csv"), would_find("/data/*", ".x")
    (True, False, False)
    """
    parts = [part for part in pattern[len(fixed_folder(pattern)) :].split("/") if part]
    if parts and parts[-1] == "**":
        parts.append("*")

    def fits(parts: list[str], names: list[str]) -> bool:
        if not parts or not names:
            return not parts and not names
        first = _test(parts[0])(names[0], names[0].startswith("."))
        if parts[0] == "**":
            return fits(parts[1:], names) or (first and fits(parts, names[1:]))
        return first and fits(parts[1:], names[1:])

    return fits(parts, name.split("/"))


def within(folder: str) -> Iterator[str]:
    """Yield the files in a folder, at any depth, without those below or with names that begin with ``.`` or ``_``.

    Raises
    ------
    DataError : it holds more than 500,000 files and folders
    """
    seen, todo = 0, [folder]
    while todo:
        for entry in _listed(todo.pop()) or ():
            seen += 1
            if entry.name.startswith((".", "_")):
                continue
            if not _is(entry.is_dir):
                yield entry.path
            elif not entry.is_symlink():
                todo.append(entry.path)
        if seen > _MOST_SEEN:
            raise _too_many(folder, folder)


def _test(part: str) -> Callable[[str, bool], bool]:
    """Return a test whether a name, hidden or not, matches one part of a pattern."""
    if not WILD.search(part):
        return lambda name, hidden: name == part
    if part == "**":
        return lambda name, hidden: not hidden
    fits, shown = re.compile(fnmatch.translate(part)).match, part.startswith(".")
    return lambda name, hidden: (shown or not hidden) and fits(name) is not None


def _listed(folder: str) -> list[os.DirEntry[str]] | None:
    """Return the entries of a folder; None if it can't be read."""
    try:
        with os.scandir(folder or ".") as entries:
            return list(entries)
    except OSError:
        return None


def _is(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except OSError:  # a link that leads to itself, or into what can't be read
        return False


def _above(link: str, folder: str) -> bool:
    """Return whether a link in a folder leads to that folder or to one above it."""
    return os.path.join(os.path.realpath(folder), "").startswith(os.path.join(os.path.realpath(link), ""))


def _too_many(path: str, folder: str) -> DataError:
    return DataError(
        f"{path}: more than {_MOST_SEEN:,} files and folders below {folder or '.'} were searched; name a folder "
        "further down"
    )
