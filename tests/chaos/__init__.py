"""Disturb real runs at random, and judge what happens: ``make chaos N=300``.

chaos_tasks  What the pipelines call.
pipelines    The pipelines, and what they must write.
cases        A seed -> one disturbed run, and how it may end.
processes    The processes of a run; a Dask cluster that stands before it.
disturbance  Start a run, send the signal, wait for its end.
judge        What a run must hold to.
campaign     Many runs, two at a time, and their table.
naive        A naive back end, on which the harness must fail.
"""
