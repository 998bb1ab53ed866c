"""Numbers -> text: terminal tables, HTML, JSON, SVG.

cause_text           The sentences of an explanation: evidence for a cause, what to change, the verdict.
comparison_json      Write a comparison as ``report.json`` into its run folder.
explanation_text     An explanation as text for a terminal of 80 columns: the numbers, the causes, what to change, the v
failures             An exception as the lines that a user reads: all faults, then one last line with what, where, why a
formatting           report.formatting.
graph_svg            The steps of a file as a picture: one SVG that needs nothing else, for light and dark screens and f
history_text         Run folders, and what has changed between two of them, as text for a terminal of 80 columns; no num
html/
loss_tables          Where the core-seconds went, as text for a terminal of 80 columns: what a comparison found, no numb
perfetto             A Trace for ui.perfetto.dev and chrome://tracing: JSON in the Chrome trace-event format.
preview              A value to look at: its kind, types, sizes, first elements, and what its numbers are like; as a map
progress             What a run shows while it goes on: a live table, plain lines, or one JSON event a line.
progress_counts      How far a run is: how many tasks of each step are done, what else happened to them, and what is lef
progress_lines       The lines of the live table: one a step, the failed and the running ones first, no more than the te
reason_text          Why a speedup is not higher, as one sentence for each back end.
redraw               A report drawn again from what lies in its run folder, and a timeline for Perfetto beside each acco
terminal             Tables and lines for a terminal of 80 columns; the numbers come in, the text goes out, nothing is c
verdicts             The sentences of a comparison: verdict, footnotes, what its exit code means.
"""
