"""What of a pipeline is run again, and what is reused from earlier runs.

config_values  Values of a Config: their digests, and short texts of them.
records        The record of a step: all that determines its result, by components.
recorder       Make the records of the steps and outputs of a Config.
reasons        What differs between two records of a step, as short texts.
step_keys      A key for each step, output and check: a hash of all that determines its result.
earlier        What earlier runs have left: the outputs that are as they were committed, the checks that passed.
wishes         What a run is asked to run again, besides what has changed.
answers        Whether each step, output and check is run or reused, and why; all of it in one line.
task_plan      Which tasks load their value, and which keep it for later runs.
plan           The plan of a run, and what is recorded of it when the run is over.
planner        Decide what is to be run, what is reused, and why.
unfinished     What failed, interrupted and killed runs have finished: items of steps, and parts of outputs.
value_stores   Where the values of one run are kept; entries that can't be read are computed again.
"""
