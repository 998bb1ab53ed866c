"""See below.

child_main       A worker process from within: how it begins, gets ready for a graph, and says what it does.
child_processes  How worker processes are started and ended; what they do themselves stands in :mod:`pipeline.backends.l
forkserver       The server that worker processes are forked from (``forkserver``): one a process, which ends with it.
loop             The one loop of the back ends of one machine: scheduler + submit -> results and Trace.
messages         A segment on its way to a worker process, and how it is run there.
pool             Plain ``multiprocessing.Pool``, as users would write it, but supervised.
process_backend  What the back ends whose workers are processes of ours share: their options, how they are entered, used
processes        Persistent worker processes, a pipe each, watched by their sentinels: the robust choice on one machine.
serial           In order, in this process: the reference that the others are compared with.
serialization    Values and messages as bytes, for workers that are processes.
status_slots     What each worker does now, readable after its death.
threads          Threads of this process: no copying, and the GIL shown for what it is.
"""
