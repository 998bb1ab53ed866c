"""What the quickstart measures in a Python file: its functions, and how often each token of the language occurs.

Plain Python on purpose: it holds the GIL, so that it shows what threads can do and what processes can.
"""

from __future__ import annotations

import ast
import io
import keyword
import token
import tokenize
from collections import Counter
from pathlib import Path

import numpy as np

N_TOKENS = 128
VOCABULARY = {text: i for i, text in enumerate([*keyword.kwlist, *sorted(token.EXACT_TOKEN_TYPES)][:N_TOKENS])}
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.BoolOp, ast.comprehension)
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try)


def parse(path: str) -> dict[str, object]:
    """One file: a row a function, and the counts of its tokens, shape (128,) int64.

    A file in another Python's syntax (the library keeps some for its own tests) has no functions and no tokens.
    """
    with tokenize.open(path) as file:
        source = file.read()
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return {"functions": [], "counts": np.zeros(N_TOKENS, np.int64)}
    module = ".".join(Path(path).with_suffix("").parts[-2:])
    functions = [
        {
            "module": module,
            "name": node.name,
            "lines": (node.end_lineno or node.lineno) - node.lineno + 1,
            "branches": sum(isinstance(inner, BRANCHES) for inner in ast.walk(node)),
            "nesting": nesting(node),
        }
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {"functions": functions, "counts": count_tokens(source)}


def nesting(node: ast.AST) -> int:
    """How deep blocks stand in each other below ``node``."""
    inner = [nesting(child) for child in ast.iter_child_nodes(node)]
    return max(inner, default=0) + isinstance(node, BLOCKS)


def count_tokens(source: str) -> np.ndarray:
    """How often each keyword and operator occurs, shape (128,) int64."""
    found = tokenize.generate_tokens(io.StringIO(source).readline)
    words = Counter(t.string for t in found if t.type in (token.NAME, token.OP))  # and no text between braces
    counts = np.zeros(N_TOKENS, np.int64)
    for text, position in VOCABULARY.items():
        counts[position] = words[text]
    return counts
