"""Ops that read files or make data.

arrow_files  ``read_feather read_orc``.
array_files  Arrays from netCDF, zarr and npy files: the ops, and a task a chunk.
array_readers  What is read of each file of a source of arrays while a Graph is built.
array_records  The metadata of one stored variable as they are in the file, and as bytes.
chunking     Chunk sizes of sources, from the file's ``chunks``.
committed    Whether the outputs of earlier runs that a source reads are still as they were committed.
csv          ``read_csv``: CSV files as a frame, in blocks of whole lines.
csv_heads    What the start of a CSV file shows: its columns, and the types of its first rows.
csv_options  The options of ``read_csv``, checked.
csv_rows     Rows of CSV before they are parsed: separators, quotes, comments, and their lines.
csv_tasks    Inside the tasks of ``read_csv``: some lines as a table, or what is wrong with them.
databases    ``read_sql``: SQLite and PostgreSQL.
excel        ``read_excel``: sheets of workbooks as a frame.
file_columns  What all sources of frames share: their tasks, the columns that are read, the types of these.
file_facts   What sources learn of each of their files: kept between builds, read in parallel, counted.
file_joins   Several files that are one array: what must be equal in them.
file_order   The order in which files are joined, by their labels.
from_call    ``from_call``: arrays and frames whose chunks and partitions a user's function returns.
generated    ``random arange zeros ones``: generated arrays, one task a chunk.
glob         Local files by pattern or by folder.
hdf5_parts   Parts of an HDF5 file by the low-level functions of h5py.
hdf5_pattern  The metadata of one variable of HDF5 files that are made alike, read by h5py alone.
hive         Folders named ``key=value`` as columns.
inspected_arrays  What a netCDF, HDF5 or zarr file has of one variable, read by xarray.
json         ``read_json``: JSON objects as a frame, in blocks of whole lines or one list.
json_tasks   Inside the tasks of ``read_json``: some lines as a table, or what is wrong with them.
json_types   The types that JSON objects show.
lake_tables  ``read_delta read_iceberg``.
npy          Npy files: their heads, and some of their values.
one_schema   One schema of several files of tables, and a partition of what was read of one.
open_arrays  Open a group of a netCDF, HDF5 or zarr file by xarray, and find what it has.
parquet      ``read_parquet``.
parquet_scan  Columns and rows of one Parquet file inside a task.
paths        Input files: find them while building, open them inside a task.
scan_conditions  The part of a filter's condition that a source can apply while it reads.
stored_arrays  One variable of a netCDF, HDF5 or zarr file: what its record means by the CF conventions.
stored_values  Values of one variable of a netCDF, HDF5 or zarr file, read in tasks.
text_blocks  Text files read in blocks of whole lines, compressed ones as one block.
text_values  Columns of texts as typed columns: the type that they show, and their values in it.
timeseries   ``timeseries``: generated rows at regular times.
"""
