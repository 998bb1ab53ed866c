"""Writer tasks, and how the outputs of a run are committed: all together, or none.

array_writers  Writer functions of arrays: zarr (whole chunks, no store object) and npy.
commit         One run's outputs, from the locks to the publish: all of them together, or none.
files          What belongs to one execution, what a writer reports, and files that are whole or not there.
grids          How a chunked array is cut into regions for writers, and regions into chunks of a file with a regular gri
locks          A lock file beside each output: one run at a time may write it, and the next one learns of a run that die
manifest       What an output is made of: files, sizes, hashes, and the run that wrote them. Written last, trusted by re
netcdf         netCDF-4 files: how values lie in them, the one task that puts a file together, and reading one back.
open           Outputs read back: lazily for a user, or as the value for a comparison.
planners       The writer tasks of an output; what each format takes and leaves stands in ``config/formats.py``.
recovery       Many renames that happen all or not at all: a journal, atomic exchanges, roll back, recovery after a cras
run_labels     Labels that only the run knows, on their way into a file: beside the coordinates that are in memory.
writers        Writer functions of frames, items and single objects: parquet, csv, json, pickle, npy, text, file.
"""
