"""The Graph (all tasks of a pipeline, as data), and pure functions of it.

graph               The Graph, and how its tasks must be run.
nodes               Nodes, the tasks of a Graph, and their order; the private parts of dask are used here.
value_types         The type of a step's value (array, frame, items, …): the keys of its tasks, what is known of it.
fusion              Fuse the tasks of a Graph into segments, the units that workers get.
numbered_tasks      The tasks of a Graph by their position in a topological order, for fusion.
segment_maker       Make the segments of groups of tasks.
ownership           Which tasks run code of the user, and which values only one of them sees.
segments            Segments and their tasks; how a task can fail, or leave an item out.
canonical_encoding  Bytes that are the same for equal plain values, and differ for any others.
task_keys           The key of a task: what determines its value, as a hash.
calendars           Times of calendars that numpy lacks: decoded from files, encoded, compared, as text.
scheduler           Decide which segment runs next and which values can be freed; used by real runs and by replays.
limits              Segments that are ready, and the limits that decide which of them may run.
column_types        Types of columns: Arrow's, their names in the language, what they hold.
declared_values     Values from outside as a declared type: each fits exactly, or is named.
late_pandas         pyarrow without pandas, until somebody imports pandas.
pandas_frames       Tables as pandas frames and back: what calls get and give, and what a run returns.
metadata            What building a Graph has read of its input files.
collect             Assemble a step's value in memory from the results of its tasks.
file_value          A file as the value of a task: the bytes that a command wrote.
drawing_layout      Place the boxes and lines of a graph of steps for a drawing.
importing           The user's modules, and the functions of them that a pipeline file names.
garbage_collection  Run Python's garbage collector less often while many tasks are made.
"""
