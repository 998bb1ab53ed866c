"""Numbers -> text: terminal output, HTML, JSON, SVG, and the sentences of verdicts.

plan_text            The plan of a file, which ``check`` shows, for a terminal of 80 columns.
terminal             The results of ``run`` and ``compare`` for a terminal of 80 columns.
loss_tables          Tables of where the core-seconds of a comparison went.
compare_reason_text  Why a speedup is not higher, as one sentence for each back end.
verdicts             The sentences of a comparison: verdict, footnotes, what its exit code means.
comparison_json      Write a comparison as ``report.json`` into its run folder.
explanation_text     The result of ``explain`` for a terminal of 80 columns.
explain_cause_text   The sentences of an explanation: evidence for a cause, what to change, the verdict.
history_text         The results of ``runs`` and ``diff`` for a terminal of 80 columns.
audit_text           The result of ``verify``.
cache_text           The results of ``cache``.
tour_text            The result of ``tour``.
preview              A summary of a value for ``show`` and ``debug``, as a map and as text.
failures             An exception as lines of text: what went wrong, where, why and what to do.
metadata_line        A line that shows how many files' metadata were read.
people_stream        The streams that people read: secrets masked, control characters escaped.
progress             Progress displays of a run: a live table, plain lines, or one JSON event per line.
progress_counts      The progress of a run: tasks done and failed of each step, and an estimate of the time left.
notebook             The progress of a run, a comparison or an explanation in the output of a notebook's cell.
progress_lines       The lines of the live table, and lines for single events.
text_tables          Tables of text and wrapped lines.
graph_svg            The steps of a file drawn as one SVG.
redraw               Make the report of a run folder: ``report.json``, the page, and timelines for Perfetto.
resume_text          What a run would reuse and what it would run again, and why.
perfetto             A Trace for ui.perfetto.dev and chrome://tracing.
html/                ``report.html``, made from ``report.json`` and the Traces of a run folder.
"""
