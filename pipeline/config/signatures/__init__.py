"""The parameters of every op, as one pydantic class each; :data:`OPS` finds them by name.

To add an op, write its class in the file of its group. One name may have several classes, one for each kind of input
(``groupby`` of arrays and of frames). No numpy and no dask here, so that a bad file is answered quickly.

base          Signature, the base class: parameters, inputs, kind of the result; the types of parameters.
sources       Ops that read arrays, list files, or generate data; the base class of all sources.
tables        Ops that read tables: files, databases, lakes.
arrays        Ops on arrays by chunks, labels, groups and windows; the base classes of all array ops.
reductions    Ops that reduce dims of an array, and running sums.
reshaping     Ops that reorder, reshape, join or pad arrays.
algebra       Ops of linear algebra and signal processing, and ops that see values beyond their chunk.
frames        Ops that select and filter frames; the base class of frame ops.
joins         Ops that join frames.
nested        Ops that turn lists and structs into rows and columns, and columns into rows.
ordering      Ops about the order of rows, and windows; some of the rows.
queries       sql: a statement of the user's over frames.
aggregation   Ops that aggregate frames by groups, periods and columns.
cleaning      Ops that clean the columns and rows of frames, and repartition them.
learning      Ops that train models of scikit-learn, and apply them.
conversions   Ops that change the kind of a value: to_array, to_frame, to_items.
web           Ops that ask other programs: lookup, crawl.
installed     Ops of other distributions, found by their entry points; ``Ops``, the mapping of all.
descriptions  Types of parameters as text, for messages and for the listing of ops.
"""

from __future__ import annotations

from collections.abc import Collection

from pipeline.config.signatures import (
    aggregation,
    algebra,
    arrays,
    cleaning,
    conversions,
    frames,
    joins,
    learning,
    nested,
    ordering,
    queries,
    reductions,
    reshaping,
    sources,
    tables,
    web,
)
from pipeline.config.signatures.base import COMMON_KEYS, Columns, ExpressionIn, Role, Signature
from pipeline.config.signatures.installed import Ops, defined_in

__all__ = ["COMMON_KEYS", "OPS", "Columns", "ExpressionIn", "Role", "Signature", "choose"]

_FRAMES = (frames, joins, ordering, nested, queries, aggregation, cleaning)
_MODULES = (sources, tables, reductions, arrays, reshaping, algebra, *_FRAMES, learning, conversions, web)
OPS = Ops(defined_in(*_MODULES))
"""Op name -> its classes, one for each kind of input; ops of other distributions are looked up on first use."""


def choose(op: str, kind: str = "", maps: Collection[str] = ()) -> type[Signature]:
    """Return the class of ``op`` for this kind of input.

    Parameters
    ----------
    kind : kind of the first input; if it is unknown, or no class takes it, ``maps`` decides
    maps : the parameters that are written as maps in the file

    Raises
    ------
    KeyError : if there is no such op
    """
    classes = OPS[op]
    for cls in classes:
        if any(kind in role.kinds for role in cls.roles().values()):
            return cls
    return next((cls for cls in classes if any(name in maps for name in cls.map_fields())), classes[0])
