"""From the Config to the Graph, and the plan of a Graph.

build       Build the Graph of a Config, one step after the other.
lowering    Turn a collection into named tasks and a value type, and a value type into a collection.
plan        The plan that ``pipeline check`` shows: a row for each step, from metadata only.
projection  Projection pushdown: which columns and slices of the sources are used.
references  Return what a reference means while building: a collection, a part of one, positions of an array.
step        Build the value of one instance of a step: enter its inputs as collections, call its op.
"""
