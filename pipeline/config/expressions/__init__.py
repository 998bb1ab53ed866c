"""The expression language: text -> tokens -> checked syntax tree. Nothing here knows numpy, pandas or dask.

expression     Expression: a parsed text; ``parse`` makes one, ``bind`` puts values in for its placeholders.
parser         Builds the tree: Python's own parser reads the text, a whitelist converts its nodes into ours.
scanner        Prepares the text for Python's parser: names, references, ``${…}`` and strings become stand-in names.
references     ``ExpressionError``, and the syntax of references to steps: ``name.part[key=label, dim=0:40]``.
functions      The table of functions and aggregates: parameters, scopes and result types; checks calls against it.
foreign_words  Words of SQL, pandas and numpy, and what to write here instead.
time_literals  Times, durations and periods as text: ``1995-03-15 12:30``, ``1h 30min``, ``quarter``.
tree           The node classes; walking, printing and constant folding of trees.
"""
