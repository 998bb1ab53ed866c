"""See below.

child_process  A measured run: a process of its own, watched while it runs, ended with all below it whatever happens.
compare        ``compare()``: the same Graph on several back ends, interleaved and repeated; how fast, and whether it is
loss_accounts  The accounts of a comparison: what the traces of its runs say, and why each speedup is not higher.
measured_run   One measured run in a process of its own: ``python -m pipeline.experiments.comparison.measured_run SPEC.j
reasons        Why a speedup is not higher, as one sentence: the largest loss, the evidence, and what to change in the f
report         A comparison as ``report.json`` and ``report.html``.
result         What a comparison found: rows of medians with intervals, and a verdict in words.
rows           Measured runs put together: a row for each case, medians with intervals, speedups against the reference.
same_outputs   The outputs and values of one run against those of the reference.
scaling        Laws of the speedup for back ends that were measured with several numbers of workers.
"""
