"""Compare back ends on one graph (``pipeline compare``).

child_process       Run one measured run in a fresh process, watch its memory, end everything below it.
compare             Measure one graph on several back ends in turns, compare their results with serial's.
rounds              The measured runs: each back end once a round; what is kept of them after an interrupt.
loss_accounts       Add to a comparison where the core-seconds went, the causes and the laws of scaling.
measured_run        The program of the fresh process: start a back end, warm it, run the graph once, report.
causes              Why a run was not faster: the guilty step or chain, the kind of cause, what it costs.
judge               Replay a run with something taken away, one thing at a time.
claims              Judge what a file claims of back ends by what was measured.
advice              What to change about a cause, and what to change first.
trial               Try the first recommendation in one more round.
tuning_knobs        The keys of a file that set the size of a step's tasks.
result              The result of a comparison: rows, differences, accounts, causes.
rows                Combine measured runs into a row for each case: medians, intervals, speedups.
output_differences  Compare the outputs and values of two runs.
scaling             Fit the laws of scaling to back ends measured with several numbers of workers.
shared_state        Why results differ, as far as the functions show it: globals, values that can't be pickled.
"""
