"""Local files by pattern or by folder: each folder is listed once, and no file is looked at that the listing tells of.

A search has an end: a pattern over a whole disk is a slip, and would look like a build that hangs.

Rejected: ``glob``, which finds a file once for each way that ``**`` leads to it, needs a second look at whether it is
one, and follows a link to a folder above forty times round.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterator

from pipeline.errors import DataError

__all__ = ["WILD", "fixed_folder", "matching", "within"]

WILD = re.compile(r"[*?\[]")
"""What makes a path a pattern."""

_MOST_SEEN = 500_000  # files and folders; some seconds


def fixed_folder(pattern: str) -> str:
    """The folders of a pattern before its first wildcard.

    >>> fixed_folder("/data/2020/*.csv"), fixed_folder("/data/x.csv")
    ('/data/2020', '/data')
    """
    wild = WILD.search(pattern)
    return os.path.dirname(pattern[: wild.start()] if wild else pattern)


def matching(pattern: str) -> list[str]:
    """The files that a pattern with ``* ? [] **`` finds, sorted, each once.

    Wildcards leave hidden names out; ``**`` stands for any number of folders. A link to a folder is followed, unless it
    leads to one above it. A folder that can't be read has nothing in it.

    Raises
    ------
    DataError : if more than 500,000 files and folders lie where it searches
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
    todo = [(folder, {0})]  # folders, each with the numbers of the parts that its names may be
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


def within(folder: str) -> Iterator[str]:
    """The files in a folder, at any depth; none whose name, or a folder's on the way, begins with ``.`` or ``_``.

    Raises
    ------
    DataError : if it holds more than 500,000 files and folders
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
    """Whether a name, hidden or not, is what one part of a pattern means."""
    if not WILD.search(part):
        return lambda name, hidden: name == part
    if part == "**":
        return lambda name, hidden: not hidden
    fits, shown = re.compile(fnmatch.translate(part)).match, part.startswith(".")
    return lambda name, hidden: (shown or not hidden) and fits(name) is not None


def _listed(folder: str) -> list[os.DirEntry[str]] | None:
    """What lies in a folder; None where it can't be read."""
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
    """Whether a link in a folder leads to that folder, or to one above it."""
    return os.path.join(os.path.realpath(folder), "").startswith(os.path.join(os.path.realpath(link), ""))


def _too_many(path: str, folder: str) -> DataError:
    return DataError(
        f"{path}: more than {_MOST_SEEN:,} files and folders lie below {folder or '.'}, where the search began; name a "
        "folder further down"
    )
