"""Signature, the base class: parameters, inputs, kind of the result; the types of parameters.

The loader checks steps against signatures, ``pipeline ops`` prints them, and the JSON Schema is made from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from pipeline.errors import nearest

__all__ = [
    "COMMON_KEYS",
    "AggExpr",
    "Axis",
    "Chunk",
    "ColumnExpr",
    "Columns",
    "CoordExpr",
    "ExpressionIn",
    "Function",
    "Path",
    "Role",
    "Signature",
    "Type",
    "is_type",
    "role",
]

COMMON_KEYS = (
    *(
        "input",
        "matrix",
        "exclude",
        "when",
        "checkpoint",
        "retries",
        "timeout",
        "resources",
        "pure",
        "writable",
        "on_error",
    ),
)
"""The keys that a step of any kind may have; no parameter of an op may have one of these names."""

Columns = frozenset[str] | None
"""The columns of a frame that later steps use; None: all of them."""


@dataclass(frozen=True)
class ExpressionIn:
    """Annotation of a field that holds an expression; ``scope`` is what the bare names in it refer to."""

    scope: Literal["arrays", "columns", "agg", "coords"]


def _expression(scope: Literal["arrays", "columns", "agg", "coords"], example: str) -> tuple[Any, ...]:
    schema = {"type": ["string", "number", "boolean"], "examples": [example]}
    return ExpressionIn(scope), WithJsonSchema(schema)


ColumnExpr = Annotated[Any, *_expression("columns", "price * (1 - discount)")]
"""An expression over the columns of a frame; loaded: a :class:`pipeline.config.expressions.expression.Expression`."""
AggExpr = Annotated[Any, *_expression("agg", "mean(delay)")]
"""An expression whose outermost function aggregates a group."""
CoordExpr = Annotated[Any, *_expression("coords", "month(time)")]
"""An expression over the coordinates of an array."""

_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_TYPES = (*_DTYPES, "string", "timestamp", "date", "duration")


def is_type(text: str) -> bool:
    """Return whether ``text`` names a type that a column can have."""
    return text in _TYPES or re.fullmatch(r"timestamp\[[^\[\]]+\]", text) is not None


def _type(text: str) -> str:
    if is_type(text):
        return text
    if text == "category":
        raise ValueError("categories differ between partitions, so a column cannot be of type category; write string")
    raise ValueError(f"unknown type {text!r}{nearest(text, _TYPES)}; types: {', '.join(_TYPES)}")


def _dtype(text: str) -> str:
    if text in _DTYPES:
        return text
    raise ValueError(f"unknown dtype {text!r}{nearest(text, _DTYPES)}; dtypes: {', '.join(_DTYPES)}")


def _function(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
        return text
    raise ValueError(f'got {text!r}; a function is written "module:function"')


def _size(value: int) -> int:
    if value >= 1 or value == -1:
        return value
    raise ValueError(f"got {value}; a chunk size is a whole number >= 1, or -1 for the whole dim")


Type = Annotated[str, AfterValidator(_type)]
"""The type of a column: a numpy dtype, ``string``, ``timestamp``, ``timestamp[UTC]``, ``date`` or ``duration``."""
Dtype = Annotated[str, AfterValidator(_dtype)]
"""The dtype of an array, by its name in numpy."""
Function = Annotated[str, AfterValidator(_function)]
Path = Annotated[str, Field(min_length=1)]
"""A path or URL to read; in a file relative to the folder of that file, absolute after loading."""
Size = Annotated[int, AfterValidator(_size)]
Chunk = Size | Literal["auto"] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
"""Chunk size: one size for all chunks, -1 for the whole dim, ``auto``, or a list of all sizes in order."""
Chunks = Annotated[dict[str, Chunk], Field(min_length=1)]
Names = Annotated[list[str], Field(min_length=1)]
Axis = str | Names
"""One dim, or several."""


@dataclass(frozen=True)
class Role:
    """What an input key of an op takes.

    Parameters
    ----------
    kinds : allowed kinds of value: array, frame, items, value
    many : whether it takes a list, or a gathered reference (``bias[*]``)
    optional : whether it may be omitted
    gathered : the kinds that it takes several of; empty: all of ``kinds``, if ``many``
    """

    kinds: tuple[str, ...]
    many: bool = False
    optional: bool = False
    gathered: tuple[str, ...] = ()


def role(kinds: Iterable[str]) -> Role:
    """Return the :class:`Role` for a short form such as ``("array", "items*")``; ``*``: several of this kind."""
    names = tuple(k.rstrip("*?") for k in kinds)
    several = tuple(k.rstrip("*?") for k in kinds if "*" in k)
    return Role(names, bool(several), any("?" in k for k in kinds), several)


class Signature(BaseModel):
    """The parameters of one op; a subclass per op, whose docstring is the description that users see.

    Attributes
    ----------
    op : name of the op
    family : group in the listing of ops
    inputs : input key -> the kinds it takes (``"array"``; ``"array*"``: a list of them; ``"array?"``: may be omitted)
    gives : kind of the result; ``parts`` if it has several, with the names in ``parts``
    home : the function that builds the result: ``module:function`` below ``pipeline.ops``, with the full module name
        for an op of another distribution
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        defer_build=True,
    )

    op: ClassVar[str]
    family: ClassVar[str]
    inputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"input": ("array",)}
    gives: ClassVar[str]
    home: ClassVar[str]
    parts: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def function_path(cls) -> str:
        """Return the full ``package.module:function`` of the function that builds the result."""
        owner = next(c for c in cls.__mro__ if "home" in vars(c))
        return f"pipeline.ops.{cls.home}" if owner.__module__.startswith("pipeline.config.signatures.") else cls.home

    @classmethod
    def roles(cls) -> dict[str, Role]:
        """Return the input keys, in order."""
        return {name: role(kinds) for name, kinds in cls.inputs.items()}

    @classmethod
    def expression_fields(cls) -> dict[str, ExpressionIn]:
        """Return the fields that hold an expression, or a map or list of expressions."""
        found = {}
        for name, info in cls.model_fields.items():
            marks = [m for m in info.metadata if isinstance(m, ExpressionIn)]
            marks += [m for a in getattr(info.annotation, "__args__", ()) for m in getattr(a, "__metadata__", ())]
            for mark in marks:
                if isinstance(mark, ExpressionIn):
                    found[name] = mark
        return found

    @classmethod
    def map_fields(cls) -> frozenset[str]:
        """Return the fields that take only a map."""
        return frozenset(name for name, info in cls.model_fields.items() if get_origin(info.annotation) is dict)

    def keywords(self) -> dict[str, Any]:
        """Return the parameters as keyword arguments of the op's function."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def function_gets(self) -> tuple[int, tuple[str, ...]] | None:
        """Return how many positional arguments a function of the user gets, and which keywords besides ``args``.

        None where that is not known, or there is no such function.
        """
        return None

    def needed(self, columns: Columns) -> dict[str, Columns]:
        """Return the columns of each frame input that the given columns of the result depend on; None: all."""
        return dict.fromkeys(self.inputs)

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return what is wrong with the parameters for these kinds of inputs, as ``(parameter, message)`` pairs."""
        return []
