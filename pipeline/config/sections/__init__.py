"""The sections of a file: the keys that each may have, and what is made of them.

fields           What the models of sections are made of: the base class, kinds of keys, pieces of JSON Schema.
formats          The formats of outputs: the kinds of values that each takes, and the files it writes.
format_options   The options of the formats of outputs, a model for each.
keys             The keys of every section of a file, a model for each: the loader and the JSON Schema use it.
validation       Values of a file checked against a pydantic model, its errors at their places in the file.
cache            The section ``cache``: the folder where values are kept for later runs, and its limits.
calls            The keys that only a call has: arguments, parts, seed; and ``over``, which commands have, too.
commands         The keys that only a command has: the program, its arguments, and the files that it writes.
function_arguments  The functions that steps name: whether they may be imported, and which arguments they get.
modules          The section ``modules``: what calls may import, and which files go to the workers.
outputs          The section ``outputs``: what is written, in which format, below which path.
checks           The section ``checks``: what must hold of the results.
step_references  References to steps from outside of the steps, as outputs and checks have them; ``keep``.
"""
