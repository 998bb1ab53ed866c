"""See below.

code     Hashes of the code that ran: the user's modules, and Pipeline itself.
inputs   Hashes of what a run read.
machine  The machine that a run was made on, and the versions of what ran.
record   Where the numbers of a run came from: the machine, the versions, the user's code, the files that were read.
"""
