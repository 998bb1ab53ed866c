"""Config -> Graph.

build       Config -> Graph, one step after the other.
lowering    From a collection to named tasks, and back: how one step is lowered by itself.
plan        What a file comes to before it is run: a row a step, from metadata only.
projection  What is needed of the sources, computed backwards over a file: columns, and slices that every user takes.
references  What a reference means while a Graph is being built: a collection, a part of one, positions of an array.
step        The value of one copy of a step: its inputs as collections over placeholders, and what its op makes of them.
"""
