"""The text of an expression with placeholders for whatever Python's parser must not see.

Names, references, ``${…}`` and strings are held back; what has no meaning at all is refused here, where its place is
known.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass, field

from pipeline.config.expressions.functions import AGGREGATES, FUNCTIONS, Scope, cure
from pipeline.config.expressions.references import ExpressionError, parse_reference
from pipeline.config.expressions.tree import Constant, Name, Named, Node, Outside

__all__ = ["DEEPEST", "Source", "TighterError", "scanned"]

_LONGEST_STRING = 1_000
DEEPEST = 100  # a level of nesting; a sum of as many terms is as deep

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
  | (?P<outside>\$\{[^{}]*\})
  | (?P<backtick>`[^`]+`)
  | (?P<number>(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?)
  | (?P<name>[^\W\d]\w*)
  | (?P<operator>\*\*|//|<=|>=|==|!=|<>|&&|\|\||:=|<<|>>|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_REFERENCE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*")
# these keep their meaning; any other word of Python's may name a column
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "if", "else", "for", "lambda", "None", "True", "False"})
_ALLOWED = frozenset({"**", "//", "<=", ">=", "==", "!=", *"<>+-*/%()[],="})
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_REFUSED = {
    "~": "got '~', which binds tighter than '=='; write 'not'",
    "!": "got '!'; write 'not', or '!='",
    "^": "got '^'; for a power write '**', for one of two conditions but not both '!='",
    "@": "got '@'; a product of matrices is a step of its own, so that it has a name: {op: matmul, left: a, right: b}",
    "<>": "got '<>'; write '!='",
    ":=": "got ':='; name it in a step of its own",
    "<<": "got '<<'; write x * 2 ** n",
    ">>": "got '>>'; write x // 2 ** n",
    "if": "got 'if'; write where(condition, a, b)",
    "else": "got 'else'; write where(condition, a, b)",
    "for": "got 'for'; an operation works on every element at once, without a loop",
    "lambda": "got 'lambda'; functions of your own are steps: call, or op map_blocks",
    "$": "got '$'; a value from elsewhere is written ${name}",
    "{": "got '{'; a value from elsewhere is written ${name}, a list [1, 2]",
    "}": "got '}' without '${'",
    ":": "got ':'; positions are picked right behind the name of an array: tas[time=0:40]",
    "?": "got '?'; write where(condition, a, b)",
    "'": "a string is never closed",
    '"': "a string is never closed",
    "`": "a name in backticks is never closed",
    "≤": "got '≤'; write '<='",
    "≥": "got '≥'; write '>='",
    "≠": "got '≠'; write '!='",
    "−": "got '−' (a minus sign); write '-' (a hyphen)",
    "×": "got '×'; write '*'",
    "‘": "got '‘'; strings stand in straight quotes: 'text'",
    "’": "got '’'; strings stand in straight quotes: 'text'",
    "“": "got '“'; strings stand in straight quotes: 'text'",
    "”": "got '”'; strings stand in straight quotes: 'text'",
}


class TighterError(ExpressionError):
    """``&`` or ``|``, which Python binds tighter than comparisons; the parser adds the cure."""


@dataclass
class Source:
    """The text for Python, all ASCII, in parentheses; ``values`` holds what its placeholders stand for.

    ``starts`` are the offsets in ``text`` at which a token begins, ``origins`` their offsets in the original.
    """

    original: str
    text: str = "("
    values: dict[str, Node] = field(default_factory=dict)
    starts: list[int] = field(default_factory=lambda: [0])
    origins: list[int] = field(default_factory=lambda: [0])

    def add(self, written: str, origin: int) -> None:
        if _joins(self.text[-1]) and _joins(written[0]):
            self.text += " "  # ${a}3 are two words
        self.starts.append(len(self.text))
        self.origins.append(origin)
        self.text += written

    def hold(self, node: Node, origin: int) -> None:
        """Add a placeholder for ``node``."""
        name = f"_v{len(self.values)}"
        self.values[name] = node
        self.add(name, origin)

    def column(self, offset: int) -> int:
        """The column in the original, from 1, of an offset in ``text``."""
        at = max(bisect.bisect_right(self.starts, offset) - 1, 0)
        ends = self.origins[at + 1] if at + 1 < len(self.origins) else len(self.original)
        found = min(self.origins[at] + offset - self.starts[at], max(ends - 1, self.origins[at])) + 1
        return min(found, max(len(self.original), 1))


def _joins(character: str) -> bool:
    return character.isalnum() or character == "_"


def scanned(text: str, scope: Scope) -> Source:
    source, position, before = Source(text), 0, ""
    opened: list[tuple[str, int]] = []
    while position < len(text):
        found = _TOKEN.match(text, position)
        assert found is not None, "the last alternative takes any character"
        kind, token, end = str(found.lastgroup), found.group(), found.end()
        if kind == "space":
            source.add(" ", position)
        elif kind == "string":
            source.hold(_string(token, position), position)
        elif kind == "outside":
            inside = token[2:-1].strip()
            if not inside:
                raise ExpressionError("got '${}'; a value from elsewhere is written ${name}", position + 1)
            source.hold(Outside(inside, position + 1), position)
        elif kind == "backtick":
            if scope == "arrays":
                raise ExpressionError(f"got {token}; the name of a step needs no backticks", position + 1)
            source.hold(Name(token[1:-1], position + 1), position)
        elif kind == "number":
            _number(token, text, position, end)
            source.add(token, position)
        elif kind == "name":
            end = _word(source, text, position, token, scope)
        else:
            _operator(token, position, before, opened)
            source.add(token, position)
        if kind != "space":
            before = token
        position = end
    if opened:
        bracket, at = opened[-1]
        raise ExpressionError(f"'{bracket}' is never closed", at + 1)
    source.add(")", len(text))
    return source


def _string(token: str, position: int) -> Constant:
    value = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), token[1:-1], flags=re.DOTALL)
    if len(value) > _LONGEST_STRING:
        raise ExpressionError(f"a string has {len(value):,} characters; at most {_LONGEST_STRING:,}", position + 1)
    pasted = re.search(r"(?<!\$)\$\{[^}]*\}", value)
    if pasted:
        raise ExpressionError(f"got {pasted[0]} inside a string; it is a value: write it without quotes", position + 1)
    return Constant(value.replace("$${", "${"))


def _number(token: str, text: str, position: int, end: int) -> None:
    if text[end : end + 1].isalnum() or text[end : end + 1] == "_":
        got = re.match(r"[\w.]+", text[position:])
        raise ExpressionError(f"got '{got[0] if got else token}', which is no number", position + 1)
    if len(token) > 400:
        raise ExpressionError("a number has more than 400 digits", position + 1)


def _word(source: Source, text: str, position: int, token: str, scope: Scope) -> int:
    """Add a name, a keyword or a reference; the position behind it."""
    end = position + len(token)
    behind = text[end:].lstrip()
    if token in _KEYWORDS:
        if token == "None":
            raise ExpressionError("got 'None'; for what is missing write missing(x), or not missing(x)", position + 1)
        if token == "is":
            negated = re.match(r"\s+not\b", text[end:]) is not None
            write = "not missing(x)" if negated else "missing(x)"
            raise ExpressionError(f"got 'is'; for what is missing write {write}, to compare '=='", position + 1)
        if token in _REFUSED:
            raise ExpressionError(_REFUSED[token], position + 1)
        source.add(token, position)
        return end
    if text[end : end + 1] in {"'", '"'}:
        raise ExpressionError(f"got {token}{text[end]}…; strings have no prefix: 'text'", position + 1)
    if behind.startswith("(") or (behind.startswith("=") and not behind.startswith("==") and token.isascii()):
        # a function, or the name of an argument; both are looked up when the tree is converted
        if not token.isascii():
            raise ExpressionError(cure(token, scope), position + 1)
        source.add(token, position)
        return end
    if scope == "arrays" and _REFERENCE.match(token):
        return _reference(source, text, position, token)
    if behind[:1] == ".":
        raise ExpressionError(_attribute(token, text, end, scope), position + 1)
    if behind[:1] == "[":
        raise ExpressionError(f"got '{token}['; nothing is picked by position in here", position + 1)
    source.hold(Name(token, position + 1), position)
    return end


def _attribute(token: str, text: str, end: int, scope: Scope) -> str:
    """The cure for ``departure.hour``, ``name.str.lower()``, ``np.sqrt(x)``, ``orders.total``."""
    path = re.match(r"[\w.]*", text[end:])
    whole = f"{token}{path[0] if path else ''}"
    last = whole.rpartition(".")[2]
    if token in {"np", "numpy", "pd", "pandas", "math", "xr"}:
        return f"got '{whole}'; a called function is a bare name: {last}(…)"
    if last in AGGREGATES and scope != "agg":
        return f"got '{whole}'; {cure(last, scope)}"
    if last in FUNCTIONS or last in AGGREGATES:
        return f"got '{whole}'; names have no attributes here: write {last}({token})"
    return f"got '{whole}'; names have no attributes here: for a column of this name write `{whole}`, for a part ${{…}}"


def _reference(source: Source, text: str, position: int, token: str) -> int:
    """Add the reference that begins at ``position``; the position behind it."""
    found = _REFERENCE.match(text, position)
    assert found is not None, "the caller has looked"
    end = found.end()
    if text[end:].lstrip().startswith("(") and "." in found.group():
        raise ExpressionError(_attribute(token, text, position + len(token), "arrays"), position + 1)
    if text[end : end + 1] == "[":
        end = _closing(text, end)
    if text[end : end + 1] in {".", "["}:
        more = re.match(r"[\w.\[\]=:*,-]*", text[end:])
        end += len(more[0]) if more else 1
    reference = parse_reference(text[position:end], column=position + 1)
    source.hold(Named(reference, position + 1), position)
    return end


def _closing(text: str, position: int) -> int:
    """The position behind the bracket that closes the one at ``position``."""
    quote = ""
    for at in range(position + 1, len(text)):
        if quote:
            quote = "" if text[at] == quote else quote
        elif text[at] in "'\"":
            quote = text[at]
        elif text[at] == "]":
            return at + 1
    raise ExpressionError("'[' is never closed", position + 1)


def _operator(token: str, position: int, before: str, opened: list[tuple[str, int]]) -> None:
    """Refuse what has no meaning, and keep account of the brackets."""
    if token in {"&", "|", "&&", "||"}:
        raise TighterError(f"got '{token}'", position + 1)
    if token == ".":
        raise ExpressionError("got '.'; names have no attributes here, functions are bare names: f(x)", position + 1)
    if token not in _ALLOWED:
        raise ExpressionError(_REFUSED.get(token, f"got {token!r}, which has no meaning here"), position + 1)
    if token in "([":
        if token == "[" and (before in {")", "]"} or before.startswith(("`", "${"))):
            raise ExpressionError("got '['; picks stand right behind the name of a step: tas[time=0:40]", position + 1)
        opened.append((token, position))
        if len(opened) > DEEPEST:
            raise ExpressionError(f"brackets are nested more than {DEEPEST} deep", position + 1)
    elif token in ")]" and (not opened or opened.pop()[0] + token not in {"()", "[]"}):
        raise ExpressionError(f"'{token}' closes nothing", position + 1)
