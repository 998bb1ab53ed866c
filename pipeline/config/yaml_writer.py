"""A tree written as YAML text that parses to the same tree: short values on one line, longer ones below their key.

Texts are in double quotes unless they are plain words, so that no reader takes them for anything else; a text too long
for its line is folded at spaces. Numbers are written as in the source. ruamel's dumper is not used: it can't choose
between one line and several by width, and can't align comments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.config.yaml_nodes import Node, scalar

__all__ = ["yaml_text"]

_WIDTH, _WITH_COMMENTS, _LONG_KEY = 100, 64, 120  # columns; a longer key needs the sign ? before it
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_YAML_1_1 = {"yes", "no", "on", "off", "..."}  # in quotes: readers of YAML 1.1 take these for truth values
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}


def yaml_text(tree: Node, *, origin: Callable[[Node], str] | None = None) -> str:
    """Return the YAML of a map, which :func:`pipeline.config.yaml_nodes.parse` reads back as the same tree.

    Parameters
    ----------
    origin : the comment beside a value, one a line; empty: no comment

    >>> from pipeline.config.yaml_nodes import parse
    >>> print(yaml_text(parse("a: [1, 'x y']\\nb: {c: ''}", "", "")), end="")
    a: [1, "x y"]
    b: {c: ""}
    """
    layout = _Layout(origin or (lambda node: ""), _WITH_COMMENTS if origin is not None else _WIDTH)
    lines = list(layout.entries(tree, "", top=True))
    beside = max((len(line) for line, comment in lines if comment and len(line) <= _WITH_COMMENTS), default=0)
    return "".join(f"{line:<{beside}}  # {comment}\n" if comment else f"{line}\n" for line, comment in lines)


_Line = tuple[str, str]  # the text, and its comment


@dataclass(frozen=True)
class _Layout:
    origin: Callable[[Node], str]
    width: int

    def entries(self, node: Node, indent: str, *, top: bool = False) -> Iterator[_Line]:
        """Yield the lines of the entries of a map."""
        for key, value in node.value.items():
            name = _key(key)
            if len(name) > _LONG_KEY:
                yield f"{indent}? {name}", ""
                name = ""
            yield from self.below(f"{indent}{name}:", value, indent, apart=top and _holds_collections(value))

    def items(self, node: Node, indent: str) -> Iterator[_Line]:
        """Yield the lines of the entries of a list."""
        for value in node.value:
            yield from self.below(f"{indent}-", value, indent, item=True)

    def below(self, head: str, node: Node, indent: str, *, item: bool = False, apart: bool = False) -> Iterator[_Line]:
        """Yield the lines of a value after ``head``, which is a key or the dash of a list."""
        flow = None if apart or len(self.origins(node)) > 1 else _flow(node, self.width - len(head) - 1)
        if not node.value and (node.is_map or node.is_list):
            yield f"{head} {'{}' if node.is_map else '[]'}", ""
        elif flow is not None:
            yield f"{head} {flow}", self.comment(node)
        elif node.is_map:
            entries = self.entries(node, f"{indent}  ")
            if item:  # the first key is on the line of the dash
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
            lines = _wrapped(f"{head} [", [*pieces[:-1], f"{pieces[-1][:-1]}]"], indent, self.width)
            yield from self.under(lines, node, indent)
        else:
            yield from self.under(_folded(head, node, indent, self.width), node, indent)

    def under(self, lines: list[str], node: Node, indent: str) -> Iterator[_Line]:
        """Yield the lines of a value that is too long for a comment beside it; the comment is above."""
        comment = self.comment(node)
        if comment:
            yield f"{indent}# {comment}", ""
        yield from ((line, "") for line in lines)

    def origins(self, node: Node) -> set[str]:
        """Return the origins of the scalars in a value."""
        if node.is_map or node.is_list:
            inner = node.value.values() if node.is_map else node.value
            return set().union(*(self.origins(one) for one in inner))
        return {self.origin(node)}

    def comment(self, node: Node) -> str:
        """Return the origins of a value, each place once, with all that was filled in there."""
        places: dict[str, dict[str, None]] = {}
        for origin in sorted(self.origins(node)):
            place, *filled_in = origin.split("; ")
            places.setdefault(place, {}).update(dict.fromkeys(filled_in))
        return ", ".join("; ".join([place, *filled_in]) for place, filled_in in places.items())


def _holds_collections(node: Node) -> bool:
    inner = node.value.values() if node.is_map else node.value if node.is_list else ()
    return any(one.is_map or one.is_list for one in inner)


def _flow(node: Node, room: int) -> str | None:
    """Return the value on one line; None if it is longer than ``room``."""
    if node.is_map:
        if any(len(_key(key)) > _LONG_KEY for key in node.value):
            return None
        pieces = [(f"{_key(key)}: ", value) for key, value in node.value.items()]
    elif node.is_list:
        pieces = [("", value) for value in node.value]
    else:
        text = _scalar(node)
        return text if len(text) <= room else None
    texts, length = [], 2
    for head, value in pieces:
        inner = _flow(value, room - length - len(head))
        if inner is None:
            return None
        texts.append(head + inner)
        length += len(texts[-1]) + 2
    text = f"{{{', '.join(texts)}}}" if node.is_map else f"[{', '.join(texts)}]"
    return text if len(text) <= room else None


def _wrapped(head: str, pieces: list[str], indent: str, width: int) -> list[str]:
    """Return the pieces after ``head``, as many on a line as there is room for."""
    lines, line = [], head
    for i, piece in enumerate(pieces):
        if i and len(line) + len(piece) + 1 > width:
            lines.append(line)
            line = f"{indent}    {piece}"
        else:
            line += f" {piece}" if i else piece
    return [*lines, line]


def _folded(head: str, node: Node, indent: str, width: int) -> list[str]:
    """Return the lines of a long scalar; a text is folded at single spaces, which YAML puts in again."""
    words = re.split(r"(?<! ) (?! )", _scalar(node))
    if words[0] == '"' or words[-1] == '"':  # a text that begins or ends with a space is not folded there
        return [f"{head} {_scalar(node)}"]
    return _wrapped(f"{head} ", words, indent, width)


def _key(text: str) -> str:
    return text if re.fullmatch(r"[0-9]+", text) or _is_plain(text) else _quoted(text)


def _is_plain(text: str) -> bool:
    is_word = _PLAIN.fullmatch(text) is not None and len(text) <= _LONG_KEY
    return is_word and isinstance(scalar(text), str) and text.lower() not in _YAML_1_1


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
