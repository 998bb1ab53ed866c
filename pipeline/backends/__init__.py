"""The back ends: different ways to run a Graph, all with the same results.

base           What a back end is: two things to declare, one method to write.
dask/          On a Dask cluster: Dask schedules, one Dask task for each segment.
descendants    End what the workers of this process have started, when they end or when this process does.
events         What a listener is called with while a run goes on: one small dataclass for each kind of event.
interrupts     Start threads and processes that never see Ctrl-C.
local/         On this machine: one loop that schedules, and five ways to run a segment.
options        Back ends as users name them, with options in brackets, and the options that a file has for them.
manager/       On this and other machines: a multiprocessing manager whose queues workers join.
registry       The back ends by name; the module of a back end is imported when it is created.
shared_folder  Whether the workers of a back end see a folder of this machine as the same user.
stopped        Worker processes that a signal has stopped.
trace_records  The rows of a Trace from what a worker measured, and the CPU time of everything but the tasks.
versions       Compare what a worker on another machine has installed with what is here.
"""
