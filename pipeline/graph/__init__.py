"""The Graph (all tasks of a pipeline, as data), and pure functions of it.

graph               The Graph, its nodes, and how its tasks must be run; the private parts of dask are used here.
value_types         The type of a step's value (array, frame, items, …): the keys of its tasks, what is known of it.
fusion              Fuse the tasks of a Graph into segments, the units that workers get.
ownership           Which tasks run code of the user, and which values only one of them sees.
segments            Segments and their tasks; how a task can fail, or leave an item out.
calendars           Times of calendars that numpy lacks: decoded from files, encoded, compared, as text.
scheduler           Decide which segment runs next and which values can be freed; used by real runs and by replays.
collect             Assemble a step's value in memory from the results of its tasks.
file_value          A file as the value of a task: the bytes that a command wrote.
drawing_layout      Place the boxes and lines of a graph of steps for a drawing.
importing           The user's modules, and the functions of them that a pipeline file names.
garbage_collection  Run Python's garbage collector less often while many tasks are made.
"""
