"""``report.html``, made from ``report.json`` and the Traces of a run folder.

bokeh_figures  What all Bokeh figures of the report share.
charts         The charts of what was compared, as Bokeh figures: bars with intervals, core-seconds, laws of scaling.
merged_bars    The tasks of a Trace as bars on lanes, as many as a page can hold: what is narrower than a pixel is merge
page           ``report.html``: a run folder's ``report.json`` and Traces as one page that needs nothing else.
tables         The tables of the HTML report: the numbers of ``report.json`` as text, in the formats of the terminal.
timelines      One run in time: its tasks on the workers that ran them, the critical path, and the workers' memory.
"""
