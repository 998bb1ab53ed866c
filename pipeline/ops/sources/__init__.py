"""See below.

array_files  Arrays from files: netCDF, zarr and npy.
chunking     The sizes of an array's chunks, from what a file says of them.
csv          Delimited text (CSV) as a frame, cut into blocks of lines and parsed by Arrow inside tasks of our own.
from_call    ``from_call``: arrays and frames whose chunks and partitions a function of the user's gives.
generated    ``random arange zeros ones``: arrays that are made up, one task a chunk.
glob         Local files by pattern or by folder: each folder is listed once, and no file is looked at that the listing
json         JSON as a frame: objects one a line, cut into blocks of lines; or one list of objects, which is one block.
parquet      Tables from files: Parquet here, delimited text in ``delimited.py``, read by Arrow inside tasks of our own.
paths        Input files: finding them while a graph is built (``files``), opening them inside a task.
text_blocks  Text files that are read in blocks of whole lines, packed ones as one block.
timeseries   A made-up frame with a time column, any length of it at once.
"""
