"""The ops: the functions that turn a step's inputs into its collection, and the tasks that they make.

arrays/         Ops on arrays.
build_warnings  Warnings of an op about its data, given while it is built.
calls/          Steps that call a function or run a program, and ``tree_reduce``.
collections     The kinds of values while a Graph is being built: Items, Single, Parts.
conversions     ``to_array`` and ``to_items``.
elementwise/    Expressions over arrays, columns, coordinates and scalars.
frames/         Ops on frames.
learning/       Models of scikit-learn: trained over a grid and folds, and applied.
data_movement   What an op moves between tasks, stated by the op while it is built.
metadata_progress  Counts the files whose metadata sources read while a Graph is built.
sources/        Ops that read files or make data.
to_frame        ``to_frame``: rows made of arrays, items and values.
web/            Ops that ask other programs: ``lookup`` and ``crawl``.
whole_numbers   Whole numbers: arithmetic, comparisons, casts and sums that are exact, or fail.
"""
