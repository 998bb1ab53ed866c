"""One run, and what it leaves.

run               Run a Config: build, check, execute, commit, and write the facts of the run.
run_result        The result of a run: its outputs, values, checks and measurements.
append_keys       What a run adds to an output that grows, as a key: the same is added once.
facts             Write what a run records about itself into its run folder: config, versions, inputs, Trace, Shape.
wall_time         Where the wall time of a run goes, in parts that add up to it.
folders           Run folders: make a new one, the files in it, and tasks.log, which keeps what tasks print.
run_report        Make report.json of a run from the files in its run folder.
report_json       Put report.json together: everything about a run or a comparison.
report_model      The models of report.json: every field with its type and unit.
report_schema     The published JSON Schema of report.json; read a document and check it.
partial           What a run that kept going could not compute: the tasks that failed, and what is missing since.
check_results     Evaluate the checks of a file on the values of a run.
kept_values       The values that runs have kept in a cache, by step; which of them are removed.
equality          Compare two values: whether they are the same bit by bit, or how much they differ.
equal_frames      Pair the rows of two frames, and find what differs.
protected_inputs  Refuse output paths at which a run would destroy inputs, other outputs, or files that are not its own.
batch_sources     Where batches get their rows from: files, outputs of runs and steps, cut into blocks.
batches           Rows of files, outputs and steps in batches, read ahead by worker processes: for training loops.
torch_batches     Batches as a dataset of PyTorch, and the epochs that its workers agree on.
inspect           Compute one value of a file (``show``) or run one of its tasks (``debug``), and nothing else.
recomputation     Compute the value of a step that a run did not keep again, where that is quick.
debugger          Run a task under pdb, in the user's frame where it failed or at the first line of the user's function.
history/          Earlier runs: find them, read them, compare two of them.
provenance/       Where the numbers of a run came from: the machine, the versions, the code, the files that were read.
resume/           What of a pipeline is run again, and what is reused from earlier runs.
"""
