"""Where the numbers of a run came from.

code     Hashes of the code that ran: the user's modules, and Pipeline itself.
inputs   Hashes of the files that a run read.
machine  The machine that a run was made on, and the versions of what ran.
record   The provenance of a comparison: the machine, the versions, the user's code and the files that were read.
"""
