"""Many runs of one file: compare back ends, explain a speedup.

comparison/   ``pipeline compare``: run one graph on several back ends, compare times and results.
explanation/  ``pipeline explain``: find by experiment why steps do not scale.
tour          ``pipeline tour``: claims about threads and processes, each a file that this machine answers.
"""
