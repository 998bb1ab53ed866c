"""Files with known causes of slowness, and what `compare` says of them.

cases        The files: builder of each, what may be said of it, what should be changed.
functions    The step functions that the files call.
__main__     The table of all cases: `make causes`, on a quiet machine.
test_judge   Causes from Traces made by hand.
"""
