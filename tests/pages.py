"""The fenced blocks of a Markdown page, in order: what the tests that follow a page go by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "apply", "blocks"]


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Parameters
    ----------
    language : what stands behind the fence: ``sh``, ``python``, ``diff``; empty for a picture
    path : the last file named in the lines right above the block, empty if none is
    line : of the page, counted from 1
    """

    language: str
    text: str
    path: str
    line: int

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, without comments."""
        lines = [re.sub(r"\s+#.*", "", line).strip() for line in self.text.splitlines()]
        return [line for line in lines if line and not line.startswith("#")]


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        above = text[: found.start()].rstrip().split("\n\n")[-1]
        named = re.findall(r"`([\w./]+\.\w+)`", above)
        path = named[-1] if named and above.endswith(":") else ""
        yield Block(found[1], found[2], path, text.count("\n", 0, found.start()) + 1)


def apply(block: Block, folder: Path) -> None:
    """Make the file that a block is, or add the lines that it adds.

    The lines of a diff that are not added must stand in the file, once and in that order.
    """
    target = folder / block.path
    if block.language != "diff":
        assert not target.exists(), f"line {block.line}: {block.path} is said to be new, and is there"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text, encoding="utf-8")
        return
    lines = block.text.splitlines()
    assert all(line.startswith((" ", "+")) for line in lines), f"line {block.line}: a diff here only adds"
    old = "".join(f"{line[1:]}\n" for line in lines if line.startswith(" "))
    new = "".join(f"{line[1:]}\n" for line in lines)
    text = target.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"line {block.line}: these lines stand {text.count(old)} times in {block.path}:\n{old}"
    target.write_text(text.replace(old, new), encoding="utf-8")
