"""The Trace (the measurements of a run, as data), and pure functions of it.

trace              The Trace of a run: what happened, one row for each attempt of a task.
shape              The Shape of a Graph: which task of which step needs which tasks; all that analyses need.
losses             Divide the core time of a run (workers x elapsed) into task time and losses, exactly.
critical_path      Find the longest chain of tasks in a graph (span), and the chain that decided how long a run took.
measured_schedule  A measured run as a schedule that can be replayed with something taken away or split.
slowdown           Which step slowed down which, by what ran at the same time.
lanes              Which workers followed each other in one place, and which segments ran there.
replay             Replay the segments of a run with given task times, in which nothing but the tasks takes time.
efficiency         Express a speedup as a product of factors, one for each kind of loss.
transfers          What moved between the workers of a run: through pipes, and through shared memory.
costs              Find the steps and tasks that took longest, and how many workers are faster than one thread (COST).
scaling_laws       Fit laws of scaling (Amdahl, USL, Karp-Flatt) to speedups with several numbers of workers.
statistics         Medians of few repeats with confidence intervals, without assuming a distribution.
account            Combine all analyses of one back end's runs in one record for reports.
time_left          Estimate how long a run will still take, as a range, while it goes on.
"""
