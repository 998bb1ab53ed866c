"""From the Config to the Graph, and the plan of a Graph.

blockwise   Make the tasks of layers that work chunk by chunk, under the names that they have in the Graph.
build       Build the Graph of a Config, one step after the other.
function_code    What decides the result of a function that is given as an object: its code, and all that it reads.
function_values  Functions that are given as objects, pickled by value, as a module that workers import.
lowering    Turn a collection into named tasks and a value type, and a value type into a collection.
plan        The plan that ``pipeline check`` shows: a row for each step, from metadata only.
projection  Projection pushdown: which columns and slices of the sources are used.
references  Return what a reference means while building: a collection, a part of one, positions of an array.
siblings    Rename the tasks of one instance of a step for its siblings, instead of building each of them.
step        Build the value of one instance of a step: enter its inputs as collections, call its op.
"""
