"""See below.

arguments  What a task of a call or a command gets: values with slots in them, where the results of other tasks go.
calls      Steps that call the user's functions.
commands   Steps that run a program, once or for each item: no shell reads its arguments.
mapping    One task, or one task an item: what calls and commands with ``over`` have in common.
trees      ``tree_reduce``: many items become one value, a few at a time.
"""
