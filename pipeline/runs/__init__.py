"""One run, and what it leaves.

check_results  The checks of a file, held against the values of a run: all of them, each with what was got and what was
debugger       A task under pdb: in the user's frame where it failed, or at the first line of the user's function.
equality       Whether two results are the same, by kind: bit by bit, or by how much they differ.
folders        What the tasks of a run wrote, kept in its folder: ``tasks.log``, a line a line.
history/
inspect        One value of a file, or one task of it, and what has to be computed for it: nothing else is, and nothing
provenance/
report_json    ``report.json``: all that is known of a run or a comparison, for reports and programs.
report_model   The models of ``report.json``, format 1: every field, its type and unit.
report_schema  The published JSON Schema of ``report.json``, and the check of documents that are read.
run            One run, from a Config to committed outputs: the only place where all parts meet.
"""
