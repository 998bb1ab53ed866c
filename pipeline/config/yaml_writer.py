"""A tree as the YAML text that it is read from: what fits on a line stands on it, the rest below its key.

Texts stand in double quotes unless they are plain words, so that no reader takes them for anything else; one that is
too long for its line goes on below, folded at spaces. Numbers stand as they were written. Rejected: ruamel's dumper,
which knows nothing of our trees, quotes differently from the files that people write, and can't align comments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.config.yaml_nodes import Node, scalar

__all__ = ["written"]

_WIDTH, _WITH_COMMENTS, _LONG_KEY = 100, 64, 120  # columns; a longer key needs the sign ? before it
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_TELLING = {"yes", "no", "on", "off", "..."}  # in quotes, since readers of YAML 1.1 see more than text
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}


def written(tree: Node, *, origin: Callable[[Node], str] | None = None) -> str:
    """The YAML of a map, which :func:`pipeline.config.yaml_nodes.parse` makes the same tree of.

    Parameters
    ----------
    origin : what a comment says beside a value; what stands on one line has one. Empty: no comment

    >>> from pipeline.config.yaml_nodes import parse
    >>> print(written(parse("a: [1, 'x y']\\nb: {c: ''}", "", "")), end="")
    a: [1, "x y"]
    b: {c: ""}
    """
    layout = _Layout(origin or (lambda node: ""), _WITH_COMMENTS if origin is not None else _WIDTH)
    lines = list(layout.entries(tree, "", top=True))
    beside = max((len(line) for line, comment in lines if comment and len(line) <= _WITH_COMMENTS), default=0)
    return "".join(f"{line:<{beside}}  # {comment}\n" if comment else f"{line}\n" for line, comment in lines)


_Line = tuple[str, str]  # the text, and what is said beside it


@dataclass(frozen=True)
class _Layout:
    origin: Callable[[Node], str]
    width: int

    def entries(self, node: Node, indent: str, *, top: bool = False) -> Iterator[_Line]:
        """The entries of a map, each on its line or lines."""
        for key, value in node.value.items():
            name = _key(key)
            if len(name) > _LONG_KEY:
                yield f"{indent}? {name}", ""
                name = ""
            yield from self.below(f"{indent}{name}:", value, indent, apart=top and _holds_collections(value))

    def items(self, node: Node, indent: str) -> Iterator[_Line]:
        """The entries of a list."""
        for value in node.value:
            yield from self.below(f"{indent}-", value, indent, item=True)

    def below(self, head: str, node: Node, indent: str, *, item: bool = False, apart: bool = False) -> Iterator[_Line]:
        """A value behind ``head``, which is a key or the dash of a list."""
        flow = None if apart or len(self.origins(node)) > 1 else _flow(node, self.width - len(head) - 1)
        if not node.value and (node.is_map or node.is_list):
            yield f"{head} {'{}' if node.is_map else '[]'}", ""
        elif flow is not None:
            yield f"{head} {flow}", self.said(node)
        elif node.is_map:
            entries = self.entries(node, f"{indent}  ")
            if item:  # the first key stands behind the dash
                first, comment = next(entries)
                yield f"{head}{first[len(indent) + 1 :]}", comment
            else:
                yield head, ""
            yield from entries
        elif node.is_list and any(inner.is_map or inner.is_list for inner in node.value):
            yield head, ""
            yield from self.items(node, f"{indent}  ")
        elif node.is_list:
            pieces = [f"{_scalar(inner)}," for inner in node.value]
            lines = _filled(f"{head} [", [*pieces[:-1], f"{pieces[-1][:-1]}]"], indent, self.width)
            yield from self.under(lines, node, indent)
        else:
            yield from self.under(_folded(head, node, indent, self.width), node, indent)

    def under(self, lines: list[str], node: Node, indent: str) -> Iterator[_Line]:
        """The lines of one value that is too long to have a comment beside it: it stands above."""
        comment = self.said(node)
        if comment:
            yield f"{indent}# {comment}", ""
        yield from ((line, "") for line in lines)

    def origins(self, node: Node) -> set[str]:
        """What is said of the scalars in a value."""
        if node.is_map or node.is_list:
            inner = node.value.values() if node.is_map else node.value
            return set().union(*(self.origins(one) for one in inner))
        return {self.origin(node)}

    def said(self, node: Node) -> str:
        return ", ".join(sorted(self.origins(node)))


def _holds_collections(node: Node) -> bool:
    inner = node.value.values() if node.is_map else node.value if node.is_list else ()
    return any(one.is_map or one.is_list for one in inner)


def _flow(node: Node, room: int) -> str | None:
    """The value on one line; None if it is longer than ``room``."""
    if node.is_map:
        if any(len(_key(key)) > _LONG_KEY for key in node.value):
            return None
        pieces = [(f"{_key(key)}: ", value) for key, value in node.value.items()]
    elif node.is_list:
        pieces = [("", value) for value in node.value]
    else:
        text = _scalar(node)
        return text if len(text) <= room else None
    told, length = [], 2
    for head, value in pieces:
        inner = _flow(value, room - length - len(head))
        if inner is None:
            return None
        told.append(head + inner)
        length += len(told[-1]) + 2
    text = f"{{{', '.join(told)}}}" if node.is_map else f"[{', '.join(told)}]"
    return text if len(text) <= room else None


def _filled(head: str, pieces: list[str], indent: str, width: int) -> list[str]:
    """The pieces behind ``head``, as many on a line as there is room for."""
    lines, line = [], head
    for i, piece in enumerate(pieces):
        if i and len(line) + len(piece) + 1 > width:
            lines.append(line)
            line = f"{indent}    {piece}"
        else:
            line += f" {piece}" if i else piece
    return [*lines, line]


def _folded(head: str, node: Node, indent: str, width: int) -> list[str]:
    """A long scalar: a text is folded where one space stands between two letters, which is what YAML unfolds."""
    words = re.split(r"(?<! ) (?! )", _scalar(node))
    if words[0] == '"' or words[-1] == '"':  # a text that begins or ends with a space is not folded there
        return [f"{head} {_scalar(node)}"]
    return _filled(f"{head} ", words, indent, width)


def _key(text: str) -> str:
    return text if re.fullmatch(r"[0-9]+", text) or _is_plain(text) else _quoted(text)


def _is_plain(text: str) -> bool:
    is_word = _PLAIN.fullmatch(text) is not None and len(text) <= _LONG_KEY
    return is_word and isinstance(scalar(text), str) and text.lower() not in _TELLING


def _scalar(node: Node) -> str:
    value = node.value
    if isinstance(value, str):
        return str(value) if _is_plain(value) else _quoted(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return node.text or str(value)


def _quoted(text: str) -> str:
    return f'"{"".join(map(_letter, text))}"'


def _letter(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable() and letter != "\ufeff":
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
