"""What runs beside the user's code, on any machine.

atomic_write    Write a file that appears, or takes the place of another, only when it is complete.
memory          Memory that a value and this process take: asked after every task, so it must cost little of a task of 1
output_capture  What tasks print, by line, with the task that said it: print, logging and warnings, on their way to who
process_setup   What makes a process fit to run tasks: the user's code, the threads below Python, the garbage collector.
run_segment     Run one segment, measure its tasks: what every back end does where its tasks run.
subprocesses    Run a program, and see to it that it never outlives the task that runs it.
temp_folders    Folders below the temp folder that don't outlive whoever needs them, however that ended.
tracebacks      An exception as text, as users are told it: what, where in their own code, and the traceback.
"""
