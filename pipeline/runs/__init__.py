"""One run, and what it leaves.

check_results  The checks of a file, held against the values of a run: all of them, each with what was got and what was
debugger       A task under pdb: in the user's frame where it failed, or at the first line of the user's function.
equality       Whether two results are the same, by kind: bit by bit, or by how much they differ.
facts          What a run records about itself in its run folder; its accounts and reports are made from these files.
folders        Run folders: where a new one is made, which files it holds, and tasks.log, which keeps what tasks print.
history/       Earlier runs: found, read again, and compared with each other.
inspect        One value of a file, or one task of it, and what has to be computed for it: nothing else is, and nothing
provenance/    Where the numbers of a run came from: the machine, the versions, the code, the files that were read.
protected_inputs  Refuse output paths at which a run would destroy inputs, other outputs, or files that are not its own.
report_json    report.json: everything about a run or a comparison, for reports and other programs.
report_model   The models of ``report.json``, format 1: every field, its type and unit.
report_schema  The published JSON Schema of ``report.json``, and the check of documents that are read.
run            One run, from a Config to committed outputs: the only place where all parts meet.
run_report     report.json of a run, made from the files that the run left in its folder.
"""
