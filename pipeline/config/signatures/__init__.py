"""The signatures of all ops by name; see :class:`pipeline.config.signatures.base.Signature`.

One name may belong to several classes that differ in the kind of their input (``groupby`` of arrays and of frames).
To add an op, write its class in the file of its group; other distributions bring theirs by entry points.
"""

from __future__ import annotations

from collections.abc import Collection

from pipeline.config.signatures import algebra, arrays, cleaning, conversions, frames, shapes, sources
from pipeline.config.signatures.base import COMMON_KEYS, Columns, ExpressionIn, Role, Signature
from pipeline.config.signatures.installed import Ops, defined_in

__all__ = ["COMMON_KEYS", "OPS", "Columns", "ExpressionIn", "Role", "Signature", "choose"]

_MODULES = (sources, arrays, shapes, algebra, frames, cleaning, conversions)

OPS = Ops(defined_in(*_MODULES))
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
