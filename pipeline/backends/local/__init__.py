"""The back ends of this machine: one loop, and the ways to run a segment.

attempts         How often segments fail and lose their workers, and whether they run again.
child_main       A worker process from the inside: how it starts, gets ready for a graph and reports what it runs.
child_processes  Start worker processes, and end them with everything that their tasks have started.
executor         What the loop needs from a back end: an executor that takes segments and later returns their results.
forkserver       The server process that workers are forked from (``forkserver``).
loop             The one loop of all back ends on this machine: from a Graph and an executor to results and a Trace.
messages         A segment as a message to a worker process, and how the worker runs it.
pool             ``multiprocessing.Pool``, as users would write it, but supervised.
pool_dispatch    How segments are handed to a ``multiprocessing.Pool``: its methods, and when their results come.
process_backend  What back ends with processes share: options, entering, leaving, values as bytes.
process_per_task A new process for each segment, which puts its result into a queue.
processes        Persistent worker processes, each with its own pipe: the robust choice on one machine.
serial           In order, in this process: the reference that the others are compared with.
serialization    Values and messages as bytes, for workers that are processes.
shared_memory    Files in memory through which workers hand large values to each other, with one copy.
status_slots     Shared status slots: the task that each worker is running, readable after the worker has died.
stream           Values of a graph one after the other, in a given order, computed ahead by the workers.
threads          Threads of this process: no copies of data, but one GIL.
"""
