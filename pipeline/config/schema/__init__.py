"""The JSON Schema of a file, and the listing of ops.

document  The JSON Schema of a pipeline file: what an editor completes, explains and underlines.
steps     The JSON Schema of steps: a definition for each kind of step, and for each class of an op.
pieces    JSON Schema made from pydantic models: the properties of their fields.
listing   The listing of ops for ``pipeline ops``: the inputs, result and parameters of each.
"""
