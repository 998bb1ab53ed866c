"""Where the numbers of a run came from.

code               Hashes of the code that ran: the user's modules, and Pipeline itself.
file_digests       Digests of the content of input files, from the notes of an earlier run where they have not changed.
inputs             The files that a run read: hashes for its report, and what distinguishes those of a step from others.
installed_modules  The distributions that installed modules are of, and their versions.
loaded_modules     Whether a module that this process has imported is still as its file is now.
machine            The machine that a run was made on, and the versions of what ran.
reads              What the steps and checks of a pipeline read: files of sources, and files that arguments name.
record             The provenance of a comparison: the machine, the versions, the code and the files that were read.
user_code          The code of the user that a step runs: the module of its function, and all that it imports.
user_modules       Where the modules are that a user's function imports, found without importing them.
"""
