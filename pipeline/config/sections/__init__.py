"""See below.

calls     What is a call's own: its arguments, parts and seed; and ``over``, which a command may have, too.
checks    The checks of a file: what must hold of its results.
commands  What is a command's own: the program with its arguments, and what it gets and leaves.
formats   The formats of outputs: which kinds of values each takes, what it can be told, and what it leaves.
outputs   The outputs of a file: what is written, in which format, below which path.
settings  Sections that name no step: modules, storage, cluster, compare.
"""
