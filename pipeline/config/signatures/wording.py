"""Types of parameters in words: for messages, and for the listing of ops."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from pipeline.config.signatures.base import ExpressionIn

__all__ = ["in_words", "wanted"]

_PLAIN = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}


def wanted(signature: type[BaseModel], name: str) -> str:
    """What the parameter takes, in words: ``text or a list of text``."""
    info = signature.model_fields[name]
    if any(isinstance(m, ExpressionIn) for m in info.metadata):
        return "an expression"
    said = in_words(info.annotation, optional=True)
    if " or " in said.partition("a map of ")[2] and info.description:
        meant = info.description.partition("; ")[0]
        return f"{_PLAIN[int]}, or a map: {meant}" if "or a whole number >= 1" in said else f"a map, {meant}"
    bounds = [_bound(m) for m in info.metadata if _bound(m)]
    return f"{said} {' and '.join(bounds)}" if bounds else said


def in_words(kind: Any, *, optional: bool = False) -> str:
    """A type in words; ``optional`` leaves out that it may be null."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        inner, *marks = args
        if any(isinstance(m, ExpressionIn) for m in marks):
            return "an expression"
        bounds = [b for b in map(_bound, marks) if b]
        return f"{in_words(inner)} {' and '.join(bounds)}" if bounds else in_words(inner)
    if origin in (Union, types.UnionType):
        said = [in_words(a) for a in args if not (optional and a is type(None))]
        if "a whole number" in said and "a number" in said:
            said.remove("a whole number")
        return " or ".join(dict.fromkeys(said))
    if origin is Literal:
        return " or ".join(str(a) for a in args)
    if origin is list:
        return f"a list of {_several(in_words(args[0]))}"
    if origin is dict:
        return f"a map of {_several(in_words(args[1]))}" if args[1] is not Any else "a map"
    return "anything" if kind is Any else _PLAIN.get(kind, getattr(kind, "__name__", str(kind)))


def _several(said: str) -> str:
    return (
        said.replace("a whole number", "whole numbers")
        .replace("a number", "numbers")
        .replace("an expression", "expressions")
    )


def _bound(mark: Any) -> str:
    """The bounds of a number in words; pydantic's own marks hold them one by one."""
    signs = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
    marks = [mark, *getattr(mark, "metadata", ())]
    return " and ".join(f"{sign} {getattr(m, name)}" for m in marks for name, sign in signs if hasattr(m, name))
