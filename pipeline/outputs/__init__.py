"""Write the outputs of a run, commit them all together or not at all, and read them back.

planners       Plan the writer tasks of an output, while the Graph is built.
writers        Write frames, items and single objects: parquet, csv, json, pickle, npy, text, file.
whole_values   Outputs that one task writes, of the whole value: JSON of items and arrays.
plots          Write plots of arrays and frames as PNG or SVG.
plot_data      The data of a plot: series and grids, made of an array or a frame.
plot_values    Values of arrays and columns as plain numbers, times and texts for a plot.
column_text    The values of a column as text for CSV and JSON, and such text as values again.
hive_folders   Folders ``column=value`` of a partitioned output: which rows go into which, and the values of a path.
array_writers  Write arrays as zarr and npy.
netcdf         Write arrays as netCDF-4, and read them back.
grids          Divide a chunked array into regions, one per writer task, and regions into the chunks of a file.
run_labels     Write labels that are computed in the run into files, next to the coordinates known before.
files          Write files that appear only when they are complete; what a writer task gets and returns.
written_parts  The files that writer tasks have completed, kept for the next run if this one does not end.
appending      Outputs that grow: whether a run may add to what is there, and the manifest afterwards.
commit         Commit the outputs of one run: locks, staging folder, verification, renames, manifests.
target_paths   The path of an output and of the hidden files beside it; whether outputs overlap or lead out of the root.
collisions     Whether an output path is, contains or is inside a file or folder that the run reads.
replaceable    Whether a run may replace what is at the path of an output: only files that its manifest names.
verification   Check that every staged file is as its writer task reported it, before anything is committed.
atomic_rename  Put the staged files into place: a journal, then one atomic rename each.
recovery       Undo an unfinished commit; delete the staging folder, at the end of its run or after it was killed.
locks          A lock file beside each output: only one run at a time may write it.
damage         Whether the files of a committed output are still as its manifest records.
audit          Compare committed outputs as a whole (``verify``), and accept those that were changed on purpose.
manifest       The manifest of a committed output: its files with sizes and hashes, and the run that wrote them.
written_text   Read frames that a run wrote as CSV or JSON, in the types of their schema.
open           Read outputs: lazily for a user, or as the value for a comparison.
"""
