"""See below.

backend            Run a Graph on Dask: one Dask task a segment, submitted at once, watched from here.
clock              What Dask workers measured, brought onto one clock.
cluster            Three ways to a cluster.
dashboard_client   What a client tells the page ``/pipeline`` of the scheduler that it uses; see :mod:`pipeline.backends
dashboard_page     The page ``/pipeline`` of a Dask dashboard: the steps of the file as a graph, and how far each of the
error_translation  What goes wrong on Dask, as one of our errors: whose task it was, and what it had to do with it.
execution          One graph on its way through a cluster, watched from here.
health             What must be true of workers before they are given work, and whether their scheduler still answers.
keys               Segments as Dask tasks: their keys, what they hand on, what they are told.
remote_task        What runs inside a Dask worker: one segment, its report, and the preparation of the worker.
"""
