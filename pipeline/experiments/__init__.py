"""Many runs: compare and explain.

comparison/
explanation/
"""
