"""From the text of an expression to its tree: placeholders for what Python must not see, then a whitelist."""

from __future__ import annotations

import ast
import re
from typing import NoReturn

from pipeline.config.expressions.functions import AGGREGATES, FUNCTIONS, Scope, arguments, cure, evaluated, no_aggregate
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.scanner import DEEPEST, Source, TighterError, scanned
from pipeline.config.expressions.tree import (
    Binary,
    Boolean,
    Call,
    Compare,
    Constant,
    Membership,
    Named,
    Node,
    Outside,
    Unary,
    bounded,
    folded,
    render,
)

__all__ = ["parse_tree"]

_LONGEST_TEXT = 10_000
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}


def parse_tree(text: str, scope: Scope) -> Node:
    """The checked tree of ``text``; constants are folded.

    Raises
    ------
    ExpressionError : with the column in ``text``
    """
    if not text.strip():
        raise ExpressionError("the expression is empty", 1)
    if len(text) > _LONGEST_TEXT:
        raise ExpressionError(f"the expression has {len(text):,} characters; at most {_LONGEST_TEXT:,} are read", 1)
    try:
        source = scanned(text, scope)
    except TighterError as error:
        raise ExpressionError(_tighter(error, text, scope), error.column) from None
    return _Converter(source, scope).whole(_python(source))


def _python(source: Source) -> ast.expr:
    """Python's tree of the text with placeholders."""
    try:
        return ast.parse(source.text, mode="eval").body
    except SyntaxError as error:
        column = source.column((error.offset or 1) - 1)
        assigned = re.search(r"(?<![=<>!])=(?!=)", source.text)
        if assigned:
            raise ExpressionError("got '='; to compare write '=='", source.column(assigned.start())) from None
        raise _unparsed(source, error.msg or "invalid syntax", column) from None
    except (RecursionError, MemoryError, ValueError):
        raise ExpressionError("the expression is nested too deeply; split it into several steps", 1) from None


def _unparsed(source: Source, reason: str, column: int) -> ExpressionError:
    """What is to be said where Python's parser finds no expression in the text."""
    last = re.search(r"(\*\*|//|[<>=!]=|[-+*/%<>,]|\b(?:and|or|not|in))\s*$", source.original)
    if last:
        return ExpressionError(f"there is nothing behind '{last[1]}'", last.start() + 1)
    if ". Perhaps" in reason:  # you forgot a comma
        reason = "between two values stands an operator: a + b, a < b, a and b"
    return ExpressionError(f"this is no expression ({reason})", column)


def _tighter(error: TighterError, text: str, scope: Scope) -> str:
    """The message for ``&`` and ``|``: with the whole rewritten, where that gives an expression."""
    token = text[error.column - 1 :][: 2 if text[error.column :][:1] == text[error.column - 1] else 1]
    word = "and" if token[0] == "&" else "or"
    comparison = re.search(r"<=|>=|==|!=|<|>", text)
    binds = f", which binds tighter than '{comparison[0]}'" if comparison and len(token) == 1 else ""
    message = f"got '{token}'{binds}; write '{word}'"
    if "'" in text or '"' in text or "`" in text:
        return message
    try:
        tree = parse_tree(re.sub(r"\s*\|\|?\s*", " or ", re.sub(r"\s*&&?\s*", " and ", text)), scope)
    except ExpressionError:
        return message
    return f"{message}: {render(tree)}"


class _Converter:
    """Python's nodes into ours; whatever is not named here is refused."""

    def __init__(self, source: Source, scope: Scope) -> None:
        self.source, self.scope = source, scope

    def whole(self, node: ast.expr) -> Node:
        if self.scope != "agg":
            return self.convert(node, 0)
        called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if not isinstance(node, ast.Call) or called not in AGGREGATES:
            self.refuse(node, no_aggregate(called))
        return self.call(node, 0, aggregate=True)

    def refuse(self, node: ast.AST, message: str) -> NoReturn:
        raise ExpressionError(message, self.column(node))

    def column(self, node: ast.AST) -> int:
        return self.source.column(getattr(node, "col_offset", 0))

    def convert(self, node: ast.expr, depth: int) -> Node:
        if depth > DEEPEST:
            self.refuse(node, f"nested more than {DEEPEST} deep; split it into several steps")
        try:
            return self.operation(node, depth + 1)
        except ExpressionError as error:
            if error.column:
                raise
            raise ExpressionError(error.message, self.column(node)) from None

    def operation(self, node: ast.expr, depth: int) -> Node:
        match node:
            case ast.Name(id=name):
                return (
                    self.source.values[name]
                    if name in self.source.values
                    else self.refuse(node, cure(name, self.scope))
                )
            case ast.Constant(value=value) if isinstance(value, bool | int | float):
                if value == float("inf"):
                    self.refuse(node, "the number is too large")
                return Constant(bounded(value))
            case ast.BoolOp(op=op, values=values):
                word = "and" if isinstance(op, ast.And) else "or"
                return folded(Boolean(word, tuple(self.convert(x, depth) for x in values)))
            case ast.UnaryOp(op=op, operand=operand) if not isinstance(op, ast.Invert):
                sign = "not" if isinstance(op, ast.Not) else "-" if isinstance(op, ast.USub) else "+"
                return folded(Unary(sign, self.convert(operand, depth)))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return folded(Binary(_OPERATORS[type(op)], self.convert(left, depth), self.convert(right, depth)))
            case ast.Compare():
                return self.comparison(node, depth)
            case ast.Call():
                return self.call(node, depth)
        return self.refuse(node, self.reason(node))

    def reason(self, node: ast.expr) -> str:
        """Why a node is not on the whitelist."""
        match node:
            case ast.List() | ast.Tuple():
                return "a list stands only behind 'in': x in [1, 2]"
            case ast.Subscript():
                return "nothing is picked by position in here"
        return "this has no meaning in an expression"

    def comparison(self, node: ast.Compare, depth: int) -> Node:
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                if len(node.ops) > 1:
                    self.refuse(right, "'in' stands in no chain; join the parts with 'and'")
                return self.membership(node.left, right, isinstance(op, ast.NotIn), depth)
        ops = tuple(_COMPARISONS[type(op)] for op in node.ops)
        rest = tuple(self.convert(x, depth) for x in node.comparators)
        return folded(Compare(self.convert(node.left, depth), ops, rest))

    def membership(self, left: ast.expr, right: ast.expr, negated: bool, depth: int) -> Node:
        operand = self.convert(left, depth)
        if isinstance(right, ast.List | ast.Tuple):
            constants = tuple(self.convert(x, depth) for x in right.elts)
            for element, constant in zip(right.elts, constants, strict=True):
                if not isinstance(constant, Constant | Outside):
                    self.refuse(
                        element, f"got {render(constant)} behind 'in', where constants stand: [1, 2] or ${{list}}"
                    )
            return folded(Membership(operand, constants, negated))
        whole = self.convert(right, depth)
        if not isinstance(whole, Outside):
            self.refuse(right, f"got {render(whole)} behind 'in', where a list stands: [1, 2] or ${{list}}")
        return Membership(operand, (whole,), negated, listed=True)

    def call(self, node: ast.Call, depth: int, *, aggregate: bool = False) -> Node:
        if not isinstance(node.func, ast.Name):
            self.refuse(node.func, "a called function must be a bare name: f(x)")
        name = node.func.id
        if name in self.source.values:
            self.refuse(node.func, "a called function must be a bare name of the function table")
        if not aggregate and (name not in FUNCTIONS or self.scope not in FUNCTIONS[name].scopes):
            self.refuse(node, cure(name, self.scope))
        args: list[Node] = []
        for arg in node.args:
            if isinstance(arg, ast.Starred):
                self.refuse(arg, "got '*'; arguments are written one by one")
            args.append(self.convert(arg, depth))
        keywords: dict[str, Node] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                self.refuse(keyword.value, "got '**'; arguments are written one by one")
            keywords[keyword.arg] = self.convert(keyword.value, depth)
        call = arguments(Call(name, tuple(args), tuple(keywords.items()), self.column(node)))
        if name == "coord" and not isinstance(call.args[0], Named):
            self.refuse(node, "the first argument of coord(x, name) is a step")
        return evaluated(call)
