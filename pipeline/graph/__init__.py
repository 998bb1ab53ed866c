"""The Graph: what is to be done, and pure functions of it.

boxes               Where the boxes of a graph of steps stand when it is drawn: in layers from top to bottom, within a w
collect             Whole values in memory from their parts: what a call gets, what a run gives back, what a comparison
file_value          A file as a value: what a task left in its folder, carried as bytes to whichever worker needs it.
fusion              From the tasks of a Graph to the segments that are handed to workers.
garbage_collection  graph.garbage_collection.
graph               The Graph: what is to be done, as one flat, closed, acyclic dict of dask task nodes.
importing           graph.importing.
scheduler           Which segment may run next: no clock, no I/O, no workers. One object drives a real run, or a replaye
segments            graph.segments.
value_types         The type of a step's value (array, frame, items, …): the keys of its tasks, what is known of it.
"""
