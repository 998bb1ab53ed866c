"""What runs beside the user's code, on any machine.

atomic_write    Write a file that appears, or replaces another, only when it is complete.
closed_files    Whether a task has closed the files of its worker: such a worker ends at once.
finished_items  A file in which a worker keeps what the items of a batch have given.
isolation       What a task of the user gets instead of the values that other tasks see as well.
import_probe    Import modules in another process, and see which functions they have, for ``check --import``.
memory          The bytes that a value and this process take.
output_buffer   What the tasks of a segment write, cut into whole lines, each with its task.
output_capture  The streams of this process while tasks run: what a task prints, logs or warns goes to its buffer.
process_setup   Get a process ready to run tasks: the user's modules, the threads of BLAS, the garbage collector.
run_segment     Run one segment and measure its tasks: what every back end does where its tasks run.
segment_result  What one attempt at a segment gives: results, measurements, failures.
subprocesses    Run a program that never outlives the task that runs it.
temp_folders    Folders below the temp folder that are removed even when their process was killed.
thread_usage    What the system counted for a thread while a task ran: waiting for a core, disk, page faults.
tracebacks      An exception as text for the user: type, message, place in the user's code, traceback.
users_function  Call a function of the user's in a task.
"""
