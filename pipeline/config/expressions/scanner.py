"""Prepares the text for Python's parser: names, references, ``${…}`` and strings become stand-in names.

Because Python never sees the originals, any word can be a column, a string has no prefixes, and columns in messages are
those of the text as written. Characters and keywords that the language does not have are refused here.
"""

from __future__ import annotations

import bisect
import math
import re
from dataclasses import dataclass, field

from pipeline.config.expressions.foreign_words import FOREIGN_OPERATORS
from pipeline.config.expressions.functions import AGGREGATES, FUNCTIONS, Scope, call_error
from pipeline.config.expressions.references import ExpressionError, parse_reference
from pipeline.config.expressions.tree import Constant, Missing, Name, Node, Placeholder, StepReference

__all__ = ["MAX_DEPTH", "BitwiseOperatorError", "PreparedText", "scan"]

MAX_DEPTH = 100
"""Levels of nesting; a sum of 100 terms has as many."""
_MAX_STRING = 1_000
_MAX_DIGITS = 400

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
  | (?P<placeholder>\$\{[^{}]*\})
  | (?P<backtick>`[^`]+`)
  | (?P<number>(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?)
  | (?P<name>[^\W\d]\w*)
  | (?P<operator>\*\*|//|<=|>=|==|!=|<>|&&|\|\||:=|::|<<|>>|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_REFERENCE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*")
# these keep Python's meaning; any other keyword of Python may name a column
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "if", "else", "for", "lambda", "None", "True", "False"})
_OPERATOR_WORDS = frozenset({"and", "or", "not", "in", "is"})
_ALLOWED = frozenset({"**", "//", "<=", ">=", "==", "!=", *"<>+-*/%()[],="})
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_QUOTES = frozenset({"'", '"'})
_REFUSED = {
    "~": "got '~', which binds tighter than '=='; write 'not'",
    "!": "got '!'; write 'not', or '!='",
    "^": "got '^'; for a power write '**', for an exclusive or '!='",
    "@": "got '@'; a product of matrices is a step of its own, so that it has a name: {op: matmul, left: a, right: b}",
    "<>": "got '<>'; write '!='",
    ":=": "got ':='; give the value a name by a step of its own",
    "::": "got '::'; write number(x), integer(x), text(x), or a step of op astype",
    "<<": "got '<<'; write x * 2 ** n",
    ">>": "got '>>'; write x // 2 ** n",
    "if": "got 'if'; write where(condition, a, b)",
    "else": "got 'else'; write where(condition, a, b)",
    "for": "got 'for'; an operation works on every element at once, without a loop",
    "lambda": "got 'lambda'; to use a function of your own write a call step, or op map_blocks",
    "$": "got '$'; a param or a value of another step is written ${name}",
    "{": "got '{'; a param or a value of another step is written ${name}, a list [1, 2]",
    "}": "got '}' without '${'",
    ":": "got ':'; a slice directly follows the name of a step: tas[time=0:40]",
    "?": "got '?'; write where(condition, a, b)",
    "'": "the string has no closing quote",
    '"': "the string has no closing quote",
    "`": "the name has no closing backtick",
    "≤": "got '≤'; write '<='",
    "≥": "got '≥'; write '>='",
    "≠": "got '≠'; write '!='",
    "−": "got '−' (a minus sign); write '-' (a hyphen)",
    "×": "got '×'; write '*'",
    **{quote: f"got '{quote}'; write strings in straight quotes: 'text'" for quote in "‘’“”"},
}


class BitwiseOperatorError(ExpressionError):
    """``&`` or ``|``, which bind tighter than comparisons in Python; the parser writes the message."""


@dataclass
class PreparedText:
    """The text for Python's parser, all ASCII and in parentheses.

    Parameters
    ----------
    original : the text as written
    nodes : stand-in name -> the node that it stands for
    starts, origins : where each token begins, in ``text`` and in ``original``, in order
    """

    original: str
    text: str = "("
    nodes: dict[str, Node] = field(default_factory=dict)
    starts: list[int] = field(default_factory=lambda: [0])
    origins: list[int] = field(default_factory=lambda: [0])

    def add(self, token: str, origin: int) -> None:
        """Append a token that begins at ``origin`` in the original."""
        if _is_word_character(self.text[-1]) and _is_word_character(token[0]):
            self.text += " "  # ${a}3 are two words
        self.starts.append(len(self.text))
        self.origins.append(origin)
        self.text += token

    def add_node(self, node: Node, origin: int) -> None:
        """Append a stand-in name for ``node``."""
        name = f"_v{len(self.nodes)}"
        self.nodes[name] = node
        self.add(name, origin)

    def column(self, offset: int) -> int:
        """Return the column in the original, counted from 1, of an offset in ``text``."""
        at = max(bisect.bisect_right(self.starts, offset) - 1, 0)
        end = self.origins[at + 1] if at + 1 < len(self.origins) else len(self.original)
        column = min(self.origins[at] + offset - self.starts[at], max(end - 1, self.origins[at])) + 1
        return min(column, max(len(self.original), 1))


def _is_word_character(character: str) -> bool:
    return character.isalnum() or character == "_"


def scan(text: str, scope: Scope) -> PreparedText:
    """Return the text with stand-in names.

    Raises
    ------
    ExpressionError : for a character, keyword or bracket that is not allowed, with its column
    """
    prepared, position, before = PreparedText(text), 0, ""
    opened: list[tuple[str, int]] = []
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None, "the last alternative takes any character"
        kind, token, end = str(match.lastgroup), match.group(), match.end()
        if kind == "space":
            prepared.add(" ", position)
        elif kind == "string":
            prepared.add_node(_string(token, position), position)
        elif kind == "placeholder":
            inside = token[2:-1].strip()
            if not inside:
                raise ExpressionError("got '${}'; a param or a value of another step is written ${name}", position + 1)
            prepared.add_node(Placeholder(inside, position + 1), position)
        elif kind == "backtick":
            if scope == "arrays":
                raise ExpressionError(f"got {token}; write the name of a step without backticks", position + 1)
            prepared.add_node(Name(token[1:-1], position + 1), position)
        elif kind == "number":
            _number(token, text, position, end)
            prepared.add(token, position)
        elif kind == "name":
            _refuse_operator(text, position, token, before)
            end = _word(prepared, text, position, token, scope)
        else:
            _operator(token, position, before, opened)
            prepared.add(token, position)
        if kind != "space":
            before = token
        position = end
    if opened:
        bracket, at = opened[-1]
        raise ExpressionError(f"'{bracket}' is not closed", at + 1)
    prepared.add(")", len(text))
    return prepared


def _string(token: str, position: int) -> Constant:
    value = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), token[1:-1], flags=re.DOTALL)
    if len(value) > _MAX_STRING:
        raise ExpressionError(
            f"a string has {len(value):,} characters; at most {_MAX_STRING:,} are allowed", position + 1
        )
    placeholder = re.search(r"(?<!\$)\$\{[^}]*\}", value)
    if placeholder:
        raise ExpressionError(f"got {placeholder[0]} inside a string; write it without quotes", position + 1)
    return Constant(value.replace("$${", "${"))


def _number(token: str, text: str, position: int, end: int) -> None:
    if text[end : end + 1].isalnum() or text[end : end + 1] == "_":
        got = re.match(r"[\w.]+", text[position:])
        raise ExpressionError(f"'{got[0] if got else token}' is not a valid number", position + 1)
    if len(token) > _MAX_DIGITS:
        raise ExpressionError(f"a number has more than {_MAX_DIGITS} digits", position + 1)


def _refuse_operator(text: str, position: int, token: str, before: str) -> None:
    """Refuse ``AND``, ``IN`` … where an operator stands: behind a value; and ``NOT`` before one."""
    write = FOREIGN_OPERATORS.get(token.casefold(), token)
    if write == token:
        return
    behind = re.match(r"\s*(?:([^\W\d]\w*)|[('\"`$\d])", text[position + len(token) :])
    is_before = behind is not None and behind[1] not in _OPERATOR_WORDS
    is_value = before[-1:].isalnum() or before[-1:] in {"_", ")", "]", "}", "'", '"', "`"}
    is_behind = is_value and before not in _OPERATOR_WORDS
    is_membership = before == "not" and write == "in" and re.match(r"\s*[\[(]\s*['\"\d]", text[position + len(token) :])
    if is_behind or is_membership or (write == "not" and is_before):
        raise ExpressionError(f"got '{token}'; write {write}", position + 1)


def _word(prepared: PreparedText, text: str, position: int, token: str, scope: Scope) -> int:
    """Add the name, keyword or reference that begins with ``token``; return the position after it."""
    end = position + len(token)
    behind = text[end:].lstrip()
    if token in _KEYWORDS:
        if token == "None":
            raise ExpressionError(
                "got 'None'; to ask write missing(x), for a missing value missing or nan", position + 1
            )
        if token == "is":
            negated = re.match(r"\s+not\b", text[end:]) is not None
            write = "not missing(x)" if negated else "missing(x)"
            raise ExpressionError(f"got 'is'; for a missing value write {write}, to compare '=='", position + 1)
        if token in _REFUSED:
            raise ExpressionError(_REFUSED[token], position + 1)
        prepared.add(token, position)
        return end
    if text[end : end + 1] in _QUOTES:
        before = text[position - 1 : position]
        cure = (
            f"a {before} within {before}…{before} is written \\{before}"
            if before in _QUOTES
            else "strings have no prefix: 'text'"
        )
        raise ExpressionError(f"got {token}{text[end]}…; {cure}", position + 1)
    if behind.startswith("(") or (behind.startswith("=") and not behind.startswith("==") and token.isascii()):
        # a function, or the name of an argument: the parser looks both up
        if not token.isascii():
            raise ExpressionError(call_error(token, scope), position + 1)
        prepared.add(token, position)
        return end
    if token in ("nan", "missing") and behind[:1] not in (".", "["):
        prepared.add_node(Constant(math.nan) if token == "nan" else Missing(position + 1), position)
        return end
    if scope == "arrays" and _REFERENCE.match(token):
        return _reference(prepared, text, position, token)
    if behind[:1] == ".":
        raise ExpressionError(_attribute(token, text, end, scope), position + 1)
    if behind[:1] == "[":
        raise ExpressionError(f"got '{token}['; positions cannot be picked inside an expression", position + 1)
    prepared.add_node(Name(token, position + 1), position)
    return end


def _attribute(token: str, text: str, end: int, scope: Scope) -> str:
    """Return the message for ``departure.hour``, ``name.str.lower()``, ``np.sqrt(x)`` or ``orders.total``."""
    path = re.match(r"[\w.]*", text[end:])
    whole = f"{token}{path[0] if path else ''}"
    last = whole.rpartition(".")[2]
    if token in {"np", "numpy", "pd", "pandas", "math", "xr"}:
        return f"got '{whole}'; call functions by their bare names: {last}(…)"
    if last in AGGREGATES and scope not in ("agg", "window"):
        return f"got '{whole}'; {call_error(last, scope)}"
    if last in FUNCTIONS or last in AGGREGATES:
        return f"got '{whole}'; names have no attributes here: write {last}({token})"
    return f"got '{whole}'; names have no attributes here: write `{whole}` for a column, ${{{whole}}} for a part"


def _reference(prepared: PreparedText, text: str, position: int, token: str) -> int:
    """Add the reference that begins at ``position``; return the position after it."""
    match = _REFERENCE.match(text, position)
    assert match is not None, "checked by the caller"
    end = match.end()
    if text[end:].lstrip().startswith("(") and "." in match.group():
        raise ExpressionError(_attribute(token, text, position + len(token), "arrays"), position + 1)
    if text[end : end + 1] == "[":
        end = _after_bracket(text, end)
    if text[end : end + 1] in {".", "["}:
        more = re.match(r"[\w.\[\]=:*,-]*", text[end:])
        end += len(more[0]) if more else 1
    reference = parse_reference(text[position:end], column=position + 1)
    prepared.add_node(StepReference(reference, position + 1), position)
    return end


def _after_bracket(text: str, position: int) -> int:
    """Return the position after the bracket that closes the one at ``position``."""
    quote = ""
    for at in range(position + 1, len(text)):
        if quote:
            quote = "" if text[at] == quote else quote
        elif text[at] in "'\"":
            quote = text[at]
        elif text[at] == "]":
            return at + 1
    raise ExpressionError("'[' is not closed", position + 1)


def _operator(token: str, position: int, before: str, opened: list[tuple[str, int]]) -> None:
    """Refuse unknown operators; push and pop the open brackets."""
    if token in {"&", "|", "&&", "||"}:
        raise BitwiseOperatorError(f"got '{token}'", position + 1)
    if token == ".":
        raise ExpressionError("got '.'; names have no attributes here, call functions as f(x)", position + 1)
    if token not in _ALLOWED:
        raise ExpressionError(_REFUSED.get(token, f"got {token!r}, which is not allowed here"), position + 1)
    if token in "([":
        if token == "[" and (before in {")", "]"} or before.startswith(("`", "${"))):
            raise ExpressionError("got '['; brackets directly follow the name of a step: tas[time=0:40]", position + 1)
        opened.append((token, position))
        if len(opened) > MAX_DEPTH:
            raise ExpressionError(f"brackets are nested more than {MAX_DEPTH} deep", position + 1)
    elif token in ")]" and (not opened or opened.pop()[0] + token not in {"()", "[]"}):
        raise ExpressionError(f"'{token}' has no opening bracket", position + 1)
