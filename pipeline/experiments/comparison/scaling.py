"""Fit the laws of scaling to back ends that were measured with several numbers of workers."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.experiments.comparison.result import Row, Scaling
from pipeline.trace.scaling_laws import amdahl, curve, karp_flatt, usl

__all__ = ["Scaling", "scaling"]

_FEWEST = 2
_FEWEST_USL = 6


def scaling(rows: Sequence[Row]) -> tuple[Scaling, ...]:
    """Return the laws for each back end that ran with two numbers of workers or more."""
    by_backend: dict[str, list[Row]] = {}
    for row in rows:
        if row.speedup is not None and not row.reference:
            by_backend.setdefault(row.backend, []).append(row)
    return tuple(_one(name, own) for name, own in by_backend.items() if len({r.workers for r in own}) >= _FEWEST)


def _one(backend: str, rows: Sequence[Row]) -> Scaling:
    workers = [row.workers for row in rows]
    speedups = [row.speedup.value for row in rows if row.speedup is not None]
    serial = amdahl(workers, speedups).serial_fraction
    law = usl(workers, speedups) if len(workers) >= _FEWEST_USL else None
    points = tuple(
        {"workers": n, "elapsed": row.elapsed, "speedup": s, "karp_flatt": karp_flatt(s, n) if n > 1 else None}
        for row, n, s in zip(rows, workers, speedups, strict=True)
    )
    return Scaling(
        backend=backend,
        points=points,
        serial_fraction=serial,
        largest_speedup=1 / serial if serial > 0 else None,
        contention=law.contention if law else None,
        coherency=law.coherency if law else None,
        curve=tuple(curve(workers, speedups)),
    )
