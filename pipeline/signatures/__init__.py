"""The signatures of all ops by name; see :class:`pipeline.signatures.base.Signature`.

One name may belong to several classes that differ in the kind of their input (``groupby`` of arrays and of frames).
To add an op, write its class in the file of its group; other distributions bring theirs by entry points.
"""

from __future__ import annotations

from collections.abc import Collection

from pipeline.signatures import algebra, arrays, cleaning, conversions, frames, shapes, sources
from pipeline.signatures.base import COMMON_KEYS, Columns, ExpressionIn, Role, Signature, nearest
from pipeline.signatures.installed import Ops, defined_in

__all__ = ["COMMON_KEYS", "LATER", "OPS", "Columns", "ExpressionIn", "Role", "Signature", "choose", "nearest"]

_MODULES = (sources, arrays, shapes, algebra, frames, cleaning, conversions)

_LATER_SOURCES = "from_npy read_json zeros ones timeseries from_call"
_LATER_ARRAYS = (
    "median histogram cumsum transpose reshape stack concatenate pad roll coarsen map_overlap matmul tensordot einsum "
    "svd_compressed qr solve fft argmax topk"
)
_LATER_FRAMES = "rename astype fillna dropna value_counts set_index repartition map_partitions"

_OWN = defined_in(*_MODULES)
LATER = frozenset(f"{_LATER_SOURCES} {_LATER_ARRAYS} {_LATER_FRAMES} tree_reduce".split()) - set(_OWN)
"""Names of ops that belong to the language and are not built yet."""

OPS = Ops(_OWN, taken=LATER)
"""Op name -> its classes, one for each kind of input; those of other distributions are looked up when one is needed."""


def choose(op: str, kind: str = "", maps: Collection[str] = ()) -> type[Signature]:
    """The class of ``op`` that is meant.

    Parameters
    ----------
    kind : of the first input; where it is unknown, or none takes it, the parameters tell
    maps : the parameters that are written as maps

    Raises
    ------
    KeyError : if there is no such op
    """
    classes = OPS[op]
    for cls in classes:
        if any(kind in role.kinds for role in cls.roles().values()):
            return cls
    return next((cls for cls in classes if any(name in maps for name in cls.map_fields())), classes[0])
