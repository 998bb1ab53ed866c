"""Counts words, and shows how far it is: the counters are the same in every process of the run."""

from __future__ import annotations

from pathlib import Path

from pipeline import shared

files = shared.Value("files", "q")
words = shared.Value("words", "q")
longest = shared.Array("longest", "i", 2)  # of all letters until now: words, letters of a word


def count(path: str) -> int:
    found = Path(path).read_text(encoding="utf-8").split()
    with words.get_lock():  # one lock for all four numbers: they belong together
        words.value += len(found)
        files.value += 1
        longest[0] = max(longest[0], len(found))
        longest[1] = max(longest[1], *map(len, found))
        if files.value % 50 == 0:
            print(f"{files.value} files, {words.value} words")
    return len(found)


def lost(counted: list[int]) -> int:
    """How many words the shared counter lacks: 0, since each update held the lock."""
    return sum(counted) - words.value
