"""See below.

expression  The expression language: a text becomes a checked tree, before any data is known.
functions   The functions of the expression language: names, parameters, and where each may stand. No target is known he
parser      From the text of an expression to its tree: placeholders for what Python must not see, then a whitelist.
references  The grammar of references, ``name``, ``name.part``, ``name[pick, …]``, ``name.part[pick, …]``, as they are w
scanner     The text of an expression with placeholders for whatever Python's parser must not see.
tree        The nodes of a parsed expression, and the arithmetic of its constants.
"""
