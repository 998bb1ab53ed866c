"""The Trace: what happened, and pure functions of it.

account        Where the core-seconds of one back end went: all that is known of its runs, put together once for every r
costs          What costs most: steps, tasks; and how many workers it takes to beat one thread (COST).
critical_path  The longest chains: of the graph (span), and of what happened in a run (the observed critical path).
efficiency     Speedup as a product of factors, each of which says what one kind of loss costs.
losses         The rectangle *workers x elapsed*, tiled exactly: where every core-second of a run went.
replay         Segments played through again: what a run takes if its tasks take the times given, and nothing else takes
scaling_laws   Laws of the speedup with the number of workers, fitted to what was measured.
shape          The Shape of a Graph: which task of which step needs which tasks; all that the analysis needs of a Graph.
statistics     Medians and their intervals, from few repeats, without a distribution being assumed.
time_left      How long a run will go on, as a range that is to hold what comes; or why that can't be said yet.
trace          The Trace: what happened, one row a task.
"""
