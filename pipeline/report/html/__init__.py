"""``report.html``, made from ``report.json`` and the Traces of a run folder.

page           Put the page together: charts, tables, scripts and the policy that allows only these.
tables         The tables of the page: the numbers of ``report.json`` as text.
charts         The charts of a comparison: elapsed time, speedup, core-seconds, scaling laws.
timelines      The timeline of a run: tasks by worker, the critical path, and the memory of workers.
merged_bars    The tasks of a Trace as bars, merged until they fit into a page.
bokeh_figures  Parts that all figures share: an empty figure, axes, tooltips, and colours.
page.html      The template of the page (Jinja2).
page.js        Draws charts when they become visible, and shows the chosen run.
"""
