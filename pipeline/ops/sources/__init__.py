"""Ops that read files or make data.

array_files  Arrays from netCDF, zarr and npy files: the ops, and a task a chunk.
chunking     Chunk sizes of sources, from what the file says of ``chunks``.
committed    Whether the outputs of earlier runs that a source reads are still as they were committed.
csv          ``read_csv``: CSV files as a frame, in blocks of whole lines.
file_joins   Several files that are one array: what must be equal in them.
file_order   The order in which files are joined, by their labels.
from_call    ``from_call``: arrays and frames whose chunks and partitions a user's function returns.
generated    ``random arange zeros ones``: generated arrays, one task a chunk.
glob         Local files by pattern or by folder.
json         ``read_json``: JSON objects as a frame, in blocks of whole lines or one list.
parquet      ``read_parquet``, and what all sources of frames share.
paths        Input files: find them while building, open them inside a task.
stored_arrays  One variable of a netCDF or zarr file: its metadata, and its values.
text_blocks  Text files read in blocks of whole lines, compressed ones as one block.
timeseries   ``timeseries``: generated rows at regular times.
"""
