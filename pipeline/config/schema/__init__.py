"""See below.

document  The JSON Schema of a pipeline file: what an editor completes, explains and underlines.
listing   The listing of ops: what each takes and gives, from the signature classes that the loader checks against.
pieces    The pieces that a JSON Schema is put together from.
steps     The part of the JSON Schema that speaks of steps: a definition for each kind, and for each class of an op.
"""
