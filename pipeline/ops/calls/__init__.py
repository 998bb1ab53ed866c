"""Steps that call a function or run a program, and ``tree_reduce``.

arguments  The arguments of the tasks of calls and commands, with slots for the results of other tasks.
calls      Steps that call a user's function.
commands   Steps that run a program, once or for each item.
mapping    One task, or one task an item: what calls and commands have in common.
trees      ``tree_reduce``: reduce many items to one value, a few at a time.
"""
