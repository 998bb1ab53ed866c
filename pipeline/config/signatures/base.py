"""Signature, the base class: parameters, inputs, kind of the result; the types of parameters.

The loader checks steps against signatures, ``pipeline ops`` prints them, and the JSON Schema is made from them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from pipeline.config.scalars import size_in_bytes
from pipeline.config.type_names import DTYPES, MORE_TYPES, TYPES, taken_apart
from pipeline.errors import nearest

__all__ = [
    "COMMON_KEYS",
    "AggExpr",
    "Axis",
    "ByteSize",
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
    "WindowExpr",
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
        "code_version",
        "depends_on",
        "retries",
        "timeout",
        "resources",
        "uses",
        "pure",
        "writable",
        "frames",
        "on_error",
    ),
)
"""The keys that a step of any kind may have; no parameter of an op may have one of these names."""

Columns = frozenset[str] | None
"""The columns of a frame that later steps use; None: all of them."""


@dataclass(frozen=True)
class ExpressionIn:
    """Annotation of a field that holds an expression; ``scope`` is what the bare names in it refer to."""

    scope: Literal["arrays", "columns", "agg", "coords", "window"]


def _expression(scope: Literal["arrays", "columns", "agg", "coords", "window"], example: str) -> tuple[Any, ...]:
    schema = {"type": ["string", "number", "boolean"], "examples": [example]}
    return ExpressionIn(scope), WithJsonSchema(schema)


ColumnExpr = Annotated[Any, *_expression("columns", "price * (1 - discount)")]
"""An expression over the columns of a frame; loaded: a :class:`pipeline.config.expressions.expression.Expression`."""
AggExpr = Annotated[Any, *_expression("agg", "mean(delay)")]
"""An expression of aggregates of a group: each column is inside one of them."""
WindowExpr = Annotated[Any, *_expression("window", "x / sum(x)")]
"""An expression over columns, the aggregates of the row's group, and functions of the rows around it."""
CoordExpr = Annotated[Any, *_expression("coords", "month(time)")]
"""An expression over the coordinates of an array."""


def is_type(text: str) -> bool:
    """Return whether ``text`` names a type that a column can have; zones are not looked up."""
    return taken_apart(text) is not None


def _type(text: str) -> str:
    if is_type(text):
        return text
    raise ValueError(f"unknown type {text!r}{nearest(text, TYPES)}; types: {', '.join(TYPES)}, {MORE_TYPES}")


def _dtype(text: str) -> str:
    if text in DTYPES:
        return text
    raise ValueError(f"unknown dtype {text!r}{nearest(text, DTYPES)}; dtypes: {', '.join(DTYPES)}")


def _bytes(value: Any) -> int:
    n = size_in_bytes(value)
    if n is None:
        raise ValueError(f"got {value!r}; a size is a number of bytes, or a text like 500kB, 20MB, 1GB")
    return n


def _function(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
        return text
    raise ValueError(f'got {text!r}; a function is written "module:function"')


def _size(value: int) -> int:
    if value >= 1 or value == -1:
        return value
    raise ValueError(f"got {value}; a chunk size is a whole number >= 1, or -1 for the whole dim")


Type = Annotated[str, AfterValidator(_type)]
"""The type of a column, as :func:`pipeline.graph.column_types.declared_type` knows them."""
Dtype = Annotated[str, AfterValidator(_dtype)]
"""The dtype of an array, by its name in numpy."""
Function = Annotated[str, AfterValidator(_function)]
Path = Annotated[str, Field(min_length=1)]
"""A path or URL to read; in a file relative to the folder of that file, absolute after loading."""
ByteSize = Annotated[int, BeforeValidator(_bytes), WithJsonSchema({"type": ["string", "number"]})]
"""Bytes: a number, or a text such as ``20MB``."""
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
    named : whether it takes a map: a name for each reference
    """

    kinds: tuple[str, ...]
    many: bool = False
    optional: bool = False
    gathered: tuple[str, ...] = ()
    named: bool = False


def role(kinds: Iterable[str]) -> Role:
    """Return the :class:`Role` for a short form such as ``("array", "items*")``; ``*``: several; ``{}``: a map."""
    names = tuple(k.rstrip("*?{}") for k in kinds)
    several = tuple(k.rstrip("*?{}") for k in kinds if "*" in k)
    return Role(names, bool(several), any("?" in k for k in kinds), several, any("{}" in k for k in kinds))


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, without its containers; of any other annotation itself."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    plain = (get_args(one)[0] if get_origin(one) is Annotated else one for one in members)
    return tuple(inner if get_origin(inner) in (dict, list) else one for inner, one in zip(plain, members, strict=True))


class Signature(BaseModel):
    """The parameters of one op; a subclass per op, whose docstring is the description that users see.

    Attributes
    ----------
    op : name of the op
    family : group in the listing of ops
    inputs : input key -> the kinds it takes (``"array"``; ``"array*"``: a list of them; ``"array?"``: may be omitted;
        ``"frame{}"``: a map of names to them)
    gives : kind of the result; ``parts`` if it has several, with the names in ``parts``
    home : the function that builds the result: ``module:function`` below ``pipeline.ops``, with the full module name
        for an op of another distribution
    parts : the names of the parts, which are arrays; or name -> kind
    extra : what ``pip install pipeline[…]`` adds that the function needs; empty: nothing
    own_items : whether the op is mapped over items, each computed by a task of its own, as a call with ``over`` is
    reads, keeps : parameters that are paths of files it reads, and of folders it keeps from run to run
    tries_itself : whether its tasks obey the step's ``retries`` and ``timeout`` themselves
    distributions : the distributions, besides Pipeline, whose versions may change its results
    semantics : raised when this op gives other results than before for the same inputs and parameters
    no_effect : parameters that never change its results
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
    parts: ClassVar[tuple[str, ...] | Mapping[str, str]] = ()
    extra: ClassVar[str] = ""
    own_items: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()
    tries_itself: ClassVar[bool] = False
    distributions: ClassVar[tuple[str, ...]] = ()
    semantics: ClassVar[int] = 1
    no_effect: ClassVar[frozenset[str]] = frozenset({"hashes"})

    @classmethod
    def part_kinds(cls) -> dict[str, str]:
        """Return the names of the parts with their kinds."""
        return dict(cls.parts) if isinstance(cls.parts, Mapping) else dict.fromkeys(cls.parts, "array")

    @classmethod
    def paths(cls) -> tuple[str, ...]:
        """Return the parameters that are paths, which are relative to the folder of the file."""
        source = ("path",) if cls.family == "sources" and "path" in cls.model_fields else ()
        return (*source, *cls.reads, *cls.keeps)

    def read_files(self) -> dict[str, tuple[str, ...]]:
        """Return the local files that a parameter names in another form than a path: parameter -> their paths."""
        return {}

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
    @functools.cache
    def expression_fields(cls) -> Mapping[str, ExpressionIn]:
        """Return the fields that hold an expression, or a map or list of expressions."""
        found: dict[str, ExpressionIn] = {}
        for name, info in cls.model_fields.items():
            inner = [a for given in _alternatives(info.annotation) for a in (given, *getattr(given, "__args__", ()))]
            marks = [*info.metadata, *(mark for a in inner for mark in getattr(a, "__metadata__", ()))]
            for mark in marks:
                if isinstance(mark, ExpressionIn):
                    found[name] = mark
        return found

    @classmethod
    def maps_of_expressions(cls) -> frozenset[str]:
        """Return the fields whose expressions stand in a map; what they take besides a map are no expressions."""
        return frozenset(
            name
            for name in cls.expression_fields()
            if any(get_origin(given) is dict for given in _alternatives(cls.model_fields[name].annotation))
        )

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

    def imported(self) -> dict[str, str]:
        """Return key -> ``module:name`` of what it names that must be among ``modules``."""
        return {}

    def needed(self, columns: Columns) -> dict[str, Columns]:
        """Return the columns of each frame input that the given columns of the result depend on; None: all."""
        return dict.fromkeys(self.inputs)

    def unrepeatable(self) -> str:
        """Return why what it reads can't be recognised as unchanged before it is read; empty: it can."""
        return ""

    def misfits(self, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return what is wrong with the parameters for these kinds of inputs, as ``(parameter, message)`` pairs."""
        return []
