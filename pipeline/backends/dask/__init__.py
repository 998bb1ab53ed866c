"""The Dask back end: one Dask task for each segment, scheduled by Dask.

admission          Which segments of a run are submitted, and when, so that no limit is exceeded.
backend            The back end ``dask``: connects to a cluster, gets its workers ready, runs Graphs on it.
clock              What the workers measured, converted to the clock of this process.
cluster            The ``cluster`` map of a file; starting a cluster, or connecting to one.
collected_values   The values that the client writes to a cache which the workers do not see.
dashboard_client   The client's side of the page ``/pipeline``: reports runs to the scheduler that shows it.
dashboard_page     The scheduler's side of the page ``/pipeline``: the steps as a graph, with their progress.
error_translation  Exceptions from Dask as errors of this package, with the task that they belong to.
execution          One run of one Graph: submits it, handles the reports, returns results and Trace.
health             Requests to the scheduler with a deadline; whether it still answers.
keep_going         On a worker, in a run that keeps going: placeholders of missing values, lost workers of a task.
keys               Segments as Dask tasks: their keys, arguments and annotations.
lease              On the scheduler: the plugins of a client go when the client goes, however it ended.
nannies            The nannies of a LocalCluster: each keeps one worker going, also one that is killed or stopped.
places             On a worker: whether a segment that uses limits may begin.
probe              Check the workers of a cluster before they are given work; ship this package where it is missing.
remote_task        The function of every Dask task: runs one segment on a worker and reports it.
reports            Turns what the workers report into events, rows of the Trace, and the list of dropped items.
status_files       Files in which each worker thread writes what it begins, readable after the worker has died.
submission         The Dask futures of one run: submitted, watched, gathered, released.
timeouts           Enforces the timeouts of tasks: stops those that exceed them, by ending their worker.
worker_plugin      The plugin that gets every worker ready and records when its tasks arrive.
"""
