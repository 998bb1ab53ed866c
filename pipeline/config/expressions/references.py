"""``ExpressionError``, and the syntax of references to steps: ``name.part[key=label, dim=0:40]``.

Only the syntax: whether ``y=3`` picks an instance by its label or a position along a dim depends on the step.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["ExpressionError", "PickText", "ReferenceText", "parse_reference"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_BARE = re.compile(r"[^\s,=:\[\]'\"*]+")
_WHOLE = re.compile(r"[+-]?\d+")
_KEYWORD = re.compile(r"([^\W\d]\w*)\s*=\s*")


class ExpressionError(ValueError):
    """An invalid expression or reference.

    Parameters
    ----------
    message : what is in the text, and what to write instead
    column : where in the text, counted from 1; 0 if the error has no single place
    """

    def __init__(self, message: str, column: int = 0) -> None:
        self.message, self.column = message, column
        super().__init__(message, column)

    def __str__(self) -> str:
        return f"column {self.column}: {self.message}" if self.column else self.message


@dataclass(frozen=True)
class PickText:
    """One entry of the brackets of a reference.

    Parameters
    ----------
    key : the matrix key or dim to pick along; None for a bare label or ``*``
    value : the label or position as written, without quotes; ``*`` gathers all instances; None for a slice
    quoted : whether the value was quoted; then it is text, not a number or ``*``
    start, stop : the ends of a slice, half-open; None for an open end
    column : where in the text, counted from 1
    """

    key: str | None
    value: str | None = None
    quoted: bool = False
    start: int | None = None
    stop: int | None = None
    column: int = field(default=0, compare=False)

    @property
    def is_slice(self) -> bool:
        return self.value is None

    @property
    def is_gather(self) -> bool:
        return self.value == "*" and not self.quoted

    @property
    def position(self) -> int | None:
        """The value as a position along a dim; None if it is not a whole number."""
        return int(self.value) if self.value is not None and not self.quoted and _WHOLE.fullmatch(self.value) else None

    def __str__(self) -> str:
        if self.is_slice:
            ends = ("" if end is None else str(end) for end in (self.start, self.stop))
            return f"{self.key}={':'.join(ends)}"
        value = f'"{self.value}"' if self.quoted else str(self.value)
        return value if self.key is None else f"{self.key}={value}"


@dataclass(frozen=True)
class ReferenceText:
    """A reference to a step as written; equality ignores spaces and ``column``.

    Parameters
    ----------
    part : ``u`` of ``svd.u``, ``best.alpha`` of ``search.best.alpha``: a part of a part; empty: the whole
    """

    name: str
    part: str = ""
    picks: tuple[PickText, ...] = ()
    column: int = field(default=1, compare=False)

    def __str__(self) -> str:
        part = f".{self.part}" if self.part else ""
        return f"{self.name}{part}[{', '.join(map(str, self.picks))}]" if self.picks else f"{self.name}{part}"


def parse_reference(text: str, *, column: int = 1) -> ReferenceText:
    """Parse a text that is one reference.

    Parameters
    ----------
    column : the column at which ``text`` begins, for messages

    Raises
    ------
    ExpressionError : with the column, what is there, and how to write it

    >>> str(parse_reference("svd.u[component=0:2]"))
    'svd.u[component=0:2]'
    """
    begin = len(text) - len(text.lstrip())
    name = _NAME.match(text, begin)
    if name is None:
        raise ExpressionError(f"got {text!r}; a reference begins with the name of a step", column + begin)
    position, part = name.end(), ""
    while text[position : position + 1] == ".":
        named = _NAME.match(text, position + 1)
        if named is None:
            raise ExpressionError(f"got {text!r}; '.' must be followed by the name of a part", column + position)
        position, part = named.end(), f"{part}.{named.group()}" if part else named.group()
    picks: tuple[PickText, ...] = ()
    if text[position:].lstrip().startswith("["):
        position = text.index("[", position)
        picks, position = _picks(text, position, column)
    rest = text[position:].strip()
    if rest.startswith("."):
        write = f"{name.group()}{rest}[{', '.join(map(str, picks))}]"
        raise ExpressionError(f"got {text!r}; the part comes before the brackets: {write}", column + position)
    if rest:
        raise ExpressionError(f"got {rest!r} after the reference {text[:position].strip()!r}", column + position)
    return ReferenceText(name.group(), part, picks, column + begin)


def _picks(text: str, position: int, column: int) -> tuple[tuple[PickText, ...], int]:
    """Return the picks of the bracket that opens at ``position``, and the position after its end."""
    picks: list[PickText] = []
    position += 1
    while True:
        pick, position = _pick(text, position, column)
        if any(pick.key is not None and pick.key == other.key for other in picks):
            raise ExpressionError(f"'{pick.key}' is picked twice", pick.column)
        picks.append(pick)
        if text[position : position + 1] == "]":
            return tuple(picks), position + 1
        if text[position : position + 1] != ",":
            if position >= len(text):
                raise ExpressionError("'[' is not closed", column + text.index("["))
            raise ExpressionError(f"got {text[position:]!r}; separate picks by ','", column + position)
        position += 1


def _pick(text: str, position: int, column: int) -> tuple[PickText, int]:
    position = _skip(text, position)
    begin = position
    key: str | None = None
    keyword = _KEYWORD.match(text, position)
    if keyword:
        key, position = keyword.group(1), keyword.end()
    if text[position : position + 1] == "*":
        return PickText(key, "*", column=column + begin), _skip(text, position + 1)
    quoted = _QUOTED.match(text, position)
    if quoted:
        value = quoted.group()[1:-1]
        return PickText(key, value, quoted=True, column=column + begin), _skip(text, quoted.end())
    first = _BARE.match(text, position)
    position = _skip(text, first.end() if first else position)
    if text[position : position + 1] == ":":
        return _slice(text, key, first.group() if first else "", begin, position + 1, column)
    if first is None:
        got = text[position : position + 1]
        raise ExpressionError(
            f"got {got!r}; write a label (tas[A1B]), * (tas[*]) or positions (tas[time=0:40])"
            if got
            else "'[' is not closed",
            column + min(begin, len(text) - 1),
        )
    return PickText(key, first.group(), column=column + begin), position


def _slice(text: str, key: str | None, first: str, begin: int, position: int, column: int) -> tuple[PickText, int]:
    """Return the slice whose ``:`` is just before ``position``, and the position after it."""
    position = _skip(text, position)
    second = _BARE.match(text, position)
    position = _skip(text, second.end() if second else position)
    ends = [first, second.group() if second else ""]
    if text[position : position + 1] == ":":
        raise ExpressionError("write start:stop; a slice has no third number here", column + position)
    if key is None:
        raise ExpressionError(f"a slice needs its dim: write time={ends[0]}:{ends[1]}", column + begin)
    for end in ends:
        if end and not _WHOLE.fullmatch(end):
            sel = f"{{op: sel, input: …, labels: {{{key}: [{ends[0]}, {ends[1]}]}}}}"
            raise ExpressionError(
                f"got '{end}'; a slice takes positions, which are whole numbers; to select by labels: {sel}",
                column + begin,
            )
    start, stop = (int(end) if end else None for end in ends)
    return PickText(key, None, start=start, stop=stop, column=column + begin), position


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position
