"""Explain by experiment why a file does not scale (``pipeline explain``).

diagnosis        Find the causes in the measurements of a step, and in the structure of the graph.
explain          Run one explanation: serial run, probes, diagnosis, recommendations, within a budget.
explained        The result: what was measured of each step, its causes, and what to change.
measurements     The measurements of one step, and the ratios that follow from them.
overhead         Measure what a task costs beside its own work, with empty tasks.
probe_backend    Run small graphs on one warm `processes` back end, each with a deadline.
probe_tasks      The tasks of the probes, which run in worker processes.
probes           Probe one batch of saved tasks with one worker, with threads and with processes.
recommendations  Rank what to change in the file by the time that it should save.
saved_task       A task saved with its real inputs, so that it can run again.
scratch_folder   The locked folder for the files of one explanation.
selection        Choose the tasks whose inputs are saved, and those that the probes run.
serial_run       Run the whole graph on `serial`, time every task and save the inputs of some.
structure        Work, span and schedule of the graph with the measured task times.
"""
