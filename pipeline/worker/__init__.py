"""What runs beside the user's code, on any machine.

atomic_write        Write a file that appears, or replaces another, only when it is complete.
arrow_digest        What determines an Arrow table: its schema, and a hash of each column's values.
cache_entries       A cache: a folder of values that runs have kept, a file each, found by the key of their task.
client_entries      Kept values that the client writes and reads, for workers that do not see the folder.
closed_files        Whether a task has left its worker without files: such a worker ends at once.
engine_connections  Whether this process has made a connection of the database engine, so that it must not fork.
file_notes          Facts about local files, kept between runs in one SQLite file.
entry_files         The file of an entry: a value that was kept, with what is known of it.
entry_values        A value as the parts of a file, and back.
finished_items      A file in which a worker keeps what the items of a batch have given.
isolation           What a task of the user gets instead of the values that other tasks see as well.
folder_probe        Whether a worker sees a folder of the client, as the same user.
helper_processes    Call a function for many arguments, in helper processes too if it takes long.
import_probe        Import modules in another process, and see which functions they have, for ``check --import``.
item_logs           The items of a run that have finished, on disk, for the next run if this one does not finish.
local_cache         The folder of this machine in which facts and results are kept between runs.
kept_tasks          Tasks that load their value where an earlier run kept it, else compute and keep it.
labelled_values     What determines an object of pandas, polars, xarray, SciPy or cftime.
mapped_files        Files as memory.
memory              The bytes that a value and this process take.
output_buffer       What the tasks of a segment write, cut into whole lines, each with its task.
output_capture      The streams of this process while tasks run: what a task prints, logs or warns goes to its buffer.
pickle_frames       A value as a pickle, and its large buffers apart.
process_setup       Get a process ready to run tasks: the user's modules, the threads of BLAS, the garbage collector.
record_files        Files of records, to which one process appends.
run_segment         Run one segment and measure its tasks: what every back end does where its tasks run.
segment_result      What one attempt at a segment gives: results, measurements, failures.
shared              Numbers and arrays that the tasks of a run share, in whatever process of this machine they run.
shared_store        Where the shared objects of a run are, and their locks.
sql_engine          Run SQL statements over Arrow tables in this thread: DuckDB, a connection a thread.
statement_chains    Tasks of a segment that run as one SQL statement.
statements          What a statement of a user may be, and whether it can be run on parts of its table.
subprocesses        Run a program that never outlives the task that runs it.
temp_folders        Folders below the temp folder that are removed even when their process was killed.
thread_usage        What the system counted for a thread while a task ran: waiting for a core, disk, page faults.
tracebacks          An exception as text for the user: type, message, place in the user's code, traceback.
user_sql            Statements of a user: SELECTs that see their tables and nothing else.
users_function      Call a function of the user's in a task.
value_digest        The digest of a value: the same in every process and session for equal values.
"""
