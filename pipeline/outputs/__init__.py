"""Writer tasks, the results they leave, and how a run's outputs are published: all together, or none.

=============  ===================================================================================================
files          what belongs to one execution (:class:`Context`), what a writer reports (:class:`PartRecord`)
arrays         writer functions of zarr and npy
netcdf         the writer function of netCDF, and how values lie in such a file
writers        writer functions of parquet, csv, json, pickle, text, file and of items
sinks          :func:`plan_sink`: the writer tasks of an output
publishing     :class:`Publication`: locks, staging, verification, one publish, recovery
reading        :func:`open_output`, :func:`read`: outputs read back
=============  ===================================================================================================

Our own writers, since ``to_zarr`` and ``to_parquet`` create and delete files while a graph is built and fix the path
in it: here the path of the staging folder reaches a writer through :data:`pipeline.graph.CONTEXT`.
"""

from __future__ import annotations

from pipeline.outputs.files import Context, FileRecord, PartRecord
from pipeline.outputs.publishing import Publication, manifest_path, stage, verify
from pipeline.outputs.reading import open_output, read
from pipeline.outputs.sinks import plan_sink

__all__ = [
    "Context",
    "FileRecord",
    "PartRecord",
    "Publication",
    "manifest_path",
    "open_output",
    "plan_sink",
    "read",
    "stage",
    "verify",
]
