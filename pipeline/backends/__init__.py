"""The back ends: one loop, many ways to submit a segment.

base           What a back end is: two things to declare, one to do.
dask/
local/
registry       The back ends by name; a back end's module is imported when it is asked for.
trace_records  From what a worker measured to the rows of a Trace; and the CPU time that goes into everything but the ta
"""
