"""Types of parameters as text, for messages and for the listing of ops."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from pipeline.config.signatures.base import ExpressionIn

__all__ = ["describe_parameter", "describe_type"]

_PLAIN = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


def describe_parameter(model: type[BaseModel], name: str) -> str:
    """Return what the parameter takes, such as ``text or a list of text``."""
    info = model.model_fields[name]
    if any(isinstance(m, ExpressionIn) for m in info.metadata):
        return "an expression"
    text = describe_type(info.annotation, optional=True)
    if " or " in text.partition("a map of ")[2] and info.description:
        # a map of several types: its description, "dim: size or auto", is shorter than the types
        content = info.description.partition("; ")[0]
        return f"{_PLAIN[int]}, or a map: {content}" if "or a whole number >= 1" in text else f"a map, {content}"
    bounds = [_bound(m) for m in info.metadata if _bound(m)]
    return f"{text} {' and '.join(bounds)}" if bounds else text


def describe_type(kind: Any, *, optional: bool = False) -> str:
    """Return a type as text; ``optional``: do not mention null."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        inner, *marks = args
        if any(isinstance(m, ExpressionIn) for m in marks):
            return "an expression"
        bounds = [b for b in map(_bound, marks) if b]
        return f"{describe_type(inner)} {' and '.join(bounds)}" if bounds else describe_type(inner)
    if origin in (Union, types.UnionType):
        texts = [describe_type(a) for a in args if not (optional and a is type(None))]
        if "a whole number" in texts and "a number" in texts:
            texts.remove("a whole number")
        return " or ".join(dict.fromkeys(texts))
    if origin is Literal:
        return " or ".join(str(a) for a in args)
    if origin is list:
        return f"a list of {_plural(describe_type(args[0]))}"
    if origin is dict:
        return f"a map of {_plural(describe_type(args[1]))}" if args[1] is not Any else "a map"
    return "anything" if kind is Any else _PLAIN.get(kind, getattr(kind, "__name__", str(kind)))


def _plural(text: str) -> str:
    return (
        text.replace("a whole number", "whole numbers")
        .replace("a number", "numbers")
        .replace("an expression", "expressions")
    )


def _bound(mark: Any) -> str:
    """Return the bounds that a pydantic annotation sets for a number, such as ``>= 1``; empty if it sets none."""
    signs = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
    marks = [mark, *getattr(mark, "metadata", ())]
    return " and ".join(f"{sign} {getattr(m, name)}" for m in marks for name, sign in signs if hasattr(m, name))
