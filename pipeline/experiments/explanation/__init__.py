"""See below.

diagnosis        From readings to causes: a pure function of numbers, which a test can make by hand.
explain          ``explain()``: a serial run, then probes of the steps that cost most, within a budget; causes, and what
explained        The noun that an explanation gives: what was measured of each step, the causes, and what to change.
measurements     What the probes of one step measured: the same batch of its tasks by one worker, by threads, by process
overhead         What a task costs beside itself, measured here: many empty tasks through a back end.
probe_processes  Children that answer: fresh processes that are asked one thing after the other, each answer by a deadli
probes           The probes of one step: its kept tasks, run again by one worker, by threads, by processes, under a dead
recommendations  What to change in the file, ranked by what it should save: predictions, and marked as such.
saved_task       A task kept with the inputs that it had, in a file: written by the serial run, read by the probes.
selection        Which tasks the serial run runs, which of them it keeps, and which of those stand for a step.
serial_run       The serial run: every task timed, and the real inputs of a few of each step kept.
structure        What the graph allows: work, span, and a schedule of the serial run's task times.
"""
