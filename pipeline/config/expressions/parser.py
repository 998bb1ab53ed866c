"""Builds the tree: Python's own parser reads the text, a whitelist converts its nodes into ours.

Rejected: ``DataFrame.query`` (a hostile text runs shell commands), asteval (reads files), and a whole parser of our own
(precedence, chained comparisons and number formats would have to be shown equal to Python's).
"""

from __future__ import annotations

import ast
import re
from typing import NoReturn

from pipeline.config.expressions.foreign_words import syntax_hint
from pipeline.config.expressions.functions import (
    AGGREGATES,
    CALLABLE,
    WINDOWS,
    Scope,
    aggregate_error,
    bind_arguments,
    call_error,
    fold_time_literal,
)
from pipeline.config.expressions.references import ExpressionError
from pipeline.config.expressions.scanner import MAX_DEPTH, BitwiseOperatorError, PreparedText, scan
from pipeline.config.expressions.tree import (
    Binary,
    Boolean,
    Call,
    Compare,
    Constant,
    Membership,
    Missing,
    Name,
    Node,
    Placeholder,
    StepReference,
    Unary,
    check_size,
    children,
    fold,
    render,
    walk,
)

__all__ = ["parse_tree"]

_MAX_LENGTH = 10_000
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
    """Return the checked tree of ``text``, with constants folded.

    Raises
    ------
    ExpressionError : with the column in ``text``
    """
    if not text.strip():
        raise ExpressionError("the expression is empty", 1)
    if len(text) > _MAX_LENGTH:
        raise ExpressionError(f"the expression has {len(text):,} characters; at most {_MAX_LENGTH:,} are allowed", 1)
    try:
        prepared = scan(text, scope)
    except BitwiseOperatorError as error:
        raise ExpressionError(_bitwise_message(error, text, scope), error.column) from None
    tree = _Converter(prepared, scope).whole(_parse_python(prepared))
    _check_missing(tree, None)
    return tree


def _check_missing(node: Node, parent: Node | None) -> None:
    """Check that ``missing`` is one of the two choices of ``where``: elsewhere its type is unknown."""
    if isinstance(node, Missing):
        chosen = isinstance(parent, Call) and parent.function == "where" and node not in parent.args[:1]
        if not chosen or parent.args[1:] == (node, node):  # type: ignore[union-attr]
            raise ExpressionError(
                "'missing' is a value in where(c, a, missing); to ask for missing values write missing(x)", node.column
            )
    for child in children(node):
        _check_missing(child, node)


def _parse_python(prepared: PreparedText) -> ast.expr:
    try:
        return ast.parse(prepared.text, mode="eval").body
    except SyntaxError as error:
        column = prepared.column((error.offset or 1) - 1)
        assigned = re.search(r"(?<![=<>!])=(?!=)", prepared.text)
        if assigned:
            raise ExpressionError("got '='; to compare write '=='", prepared.column(assigned.start())) from None
        raise _syntax_error(prepared, error.msg or "invalid syntax", column) from None
    except (RecursionError, MemoryError, ValueError):
        raise ExpressionError("the expression is nested too deeply; split it into several steps", 1) from None


def _syntax_error(prepared: PreparedText, reason: str, column: int) -> ExpressionError:
    """Return the error for a text that Python's parser refuses; ``reason`` is Python's own message."""
    last = re.search(r"(\*\*|//|[<>=!]=|[-+*/%<>,]|\b(?:and|or|not|in))\s*$", prepared.original)
    if last:
        return ExpressionError(f"nothing follows '{last[1]}'", last.start() + 1)
    if hint := syntax_hint(prepared.original):
        return ExpressionError(hint, column)
    if ". Perhaps" in reason:  # "invalid syntax. Perhaps you forgot a comma?"
        reason = "an operator is missing between two values: a + b, a < b, a and b"
    return ExpressionError(f"invalid expression ({reason})", column)


def _bitwise_message(error: BitwiseOperatorError, text: str, scope: Scope) -> str:
    """Return the message for ``&`` or ``|``: with the whole expression rewritten, if the rewritten one is valid."""
    token = text[error.column - 1 :][: 2 if text[error.column :][:1] == text[error.column - 1] else 1]
    word = "and" if token[0] == "&" else "or"
    comparison = re.search(r"<=|>=|==|!=|<|>", text)
    binds = f", which binds tighter than '{comparison[0]}'" if comparison and len(token) == 1 else ""
    message = f"got '{token}'{binds}; write '{word}'"
    if "'" in text or '"' in text or "`" in text:  # & or | may be inside a string
        return f"{message}; to join text write concat(a, b)" if token == "||" else message
    try:
        tree = parse_tree(re.sub(r"\s*\|\|?\s*", " or ", re.sub(r"\s*&&?\s*", " and ", text)), scope)
    except ExpressionError:
        return message
    return f"{message}: {render(tree)}"


class _Converter:
    """Converts Python's nodes into ours and refuses any node that it does not name."""

    def __init__(self, prepared: PreparedText, scope: Scope) -> None:
        self.prepared, self.scope = prepared, scope

    def whole(self, node: ast.expr) -> Node:
        tree = self.convert(node, 0)
        if self.scope in ("agg", "window"):
            self.check_aggregates(tree, node)
        return tree

    def check_aggregates(self, tree: Node, node: ast.expr) -> None:
        """Check that no aggregate is inside another one; and of an ``agg`` that it has one, and columns only in it."""
        if self.scope == "agg" and not any(
            isinstance(inner, Call) and inner.function in AGGREGATES for inner in walk(tree)
        ):
            self.refuse(node, aggregate_error())
        pending: list[tuple[Node, bool]] = [(tree, False)]
        while pending:
            inner, aggregated = pending.pop()
            if isinstance(inner, Name) and not aggregated and self.scope == "agg":
                raise ExpressionError(
                    f"'{inner.name}' is outside of an aggregate; a group has many of them: first({inner.name}), "
                    "or make it a key",
                    inner.column,
                )
            own = isinstance(inner, Call) and (inner.function in AGGREGATES or inner.function in WINDOWS)
            if own and aggregated:
                raise ExpressionError(call_error(inner.function, self.scope), inner.column)  # type: ignore[union-attr]
            pending += [(child, aggregated or own) for child in children(inner)]

    def refuse(self, node: ast.AST, message: str) -> NoReturn:
        raise ExpressionError(message, self.column(node))

    def column(self, node: ast.AST) -> int:
        return self.prepared.column(getattr(node, "col_offset", 0))

    def convert(self, node: ast.expr, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self.refuse(node, f"nested more than {MAX_DEPTH} deep; split it into several steps")
        try:
            return self.operation(node, depth + 1)
        except ExpressionError as error:
            if error.column:
                raise
            raise ExpressionError(error.message, self.column(node)) from None

    def operation(self, node: ast.expr, depth: int) -> Node:
        match node:
            case ast.Name(id=name):
                nodes = self.prepared.nodes
                return nodes[name] if name in nodes else self.refuse(node, call_error(name, self.scope))
            case ast.Constant(value=value) if isinstance(value, bool | int | float):
                if value == float("inf"):
                    self.refuse(node, "the number is too large")
                return Constant(check_size(value))
            case ast.BoolOp(op=op, values=values):
                word = "and" if isinstance(op, ast.And) else "or"
                return fold(Boolean(word, tuple(self.convert(x, depth) for x in values)))
            case ast.UnaryOp(op=op, operand=operand) if not isinstance(op, ast.Invert):
                sign = "not" if isinstance(op, ast.Not) else "-" if isinstance(op, ast.USub) else "+"
                return fold(Unary(sign, self.convert(operand, depth)))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return fold(Binary(_OPERATORS[type(op)], self.convert(left, depth), self.convert(right, depth)))
            case ast.Compare():
                return self.comparison(node, depth)
            case ast.Call():
                return self.call(node, depth)
        return self.refuse(node, self.reason(node))

    def reason(self, node: ast.expr) -> str:
        """Return why a node is not on the whitelist."""
        match node:
            case ast.List() | ast.Tuple():
                return "a list is only allowed after 'in': x in [1, 2]"
            case ast.Subscript():
                return "positions cannot be picked inside an expression"
        return "this is not allowed in an expression"

    def comparison(self, node: ast.Compare, depth: int) -> Node:
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                if len(node.ops) > 1:
                    self.refuse(right, "'in' cannot be chained with other comparisons; join the parts with 'and'")
                return self.membership(node.left, right, isinstance(op, ast.NotIn), depth)
        ops = tuple(_COMPARISONS[type(op)] for op in node.ops)
        rest = tuple(self.convert(x, depth) for x in node.comparators)
        return fold(Compare(self.convert(node.left, depth), ops, rest))

    def membership(self, left: ast.expr, right: ast.expr, negated: bool, depth: int) -> Node:
        operand = self.convert(left, depth)
        if isinstance(right, ast.List | ast.Tuple):
            constants = tuple(self.convert(x, depth) for x in right.elts)
            for element, constant in zip(right.elts, constants, strict=True):
                if not isinstance(constant, Constant | Placeholder):
                    got = render(constant)
                    self.refuse(element, f"got {got} after 'in', which takes constants: [1, 2] or ${{list}}")
            return fold(Membership(operand, constants, negated))
        whole = self.convert(right, depth)
        if not isinstance(whole, Placeholder):
            self.refuse(right, f"got {render(whole)} after 'in', which takes a list: [1, 2] or ${{list}}")
        return Membership(operand, (whole,), negated, listed=True)

    def call(self, node: ast.Call, depth: int) -> Node:
        if not isinstance(node.func, ast.Name):
            self.refuse(node.func, "only a function can be called, by its bare name: f(x)")
        name = node.func.id
        if name in self.prepared.nodes:
            self.refuse(node.func, "only a function can be called, by its bare name: f(x)")
        if name not in CALLABLE or self.scope not in CALLABLE[name].scopes:
            self.refuse(node, call_error(name, self.scope))
        args: list[Node] = []
        for arg in node.args:
            if isinstance(arg, ast.Starred):
                self.refuse(arg, "got '*'; write the arguments one by one")
            args.append(self.argument(name, len(args), arg, depth))
        keywords: dict[str, Node] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                self.refuse(keyword.value, "got '**'; write the arguments one by one")
            keywords[keyword.arg] = self.argument(name, keyword.arg, keyword.value, depth)
        call = bind_arguments(Call(name, tuple(args), tuple(keywords.items()), self.column(node)))
        if name == "coord" and not isinstance(call.args[0], StepReference):
            self.refuse(node, "the first argument of coord(x, name) must be a step")
        return fold_time_literal(call)

    def argument(self, function: str, at: int | str, node: ast.expr, depth: int) -> Node:
        """Convert an argument; a list of texts where the function takes one."""
        known = CALLABLE[function].parameters
        found = [p for i, p in enumerate(known) if at in (i, p.name)]
        if not isinstance(node, ast.List | ast.Tuple) or not found or found[0].kind != "texts":
            return self.convert(node, depth)
        elements = [self.convert(element, depth) for element in node.elts]
        if not all(isinstance(element, Constant) and isinstance(element.value, str) for element in elements):
            self.refuse(node, f"'{found[0].name}' of {function} takes a list of texts: ['%d.%m.%Y', '%Y-%m-%d']")
        return Constant(tuple(element.value for element in elements if isinstance(element, Constant)))
