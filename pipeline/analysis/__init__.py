"""From what happened to numbers: pure functions of Traces, Graphs and values. Nothing here runs a task or draws.

    Trace, serial's times --> rectangle, losses, factors, paths, costs --> account --> reason

===============  ==================================================================================================
``accounting``   *workers x elapsed* tiled in integer nanoseconds, and the losses
``efficiency``   the speedup as a product of POP's factors
``paths``        the span of a graph, and the observed critical path of a run
``costs``        the steps and tasks that cost most; how many workers beat one thread (COST)
``scaling``      Amdahl's law, Karp-Flatt, the universal scalability law
``account``      all that is known of the runs of one back end, put together
``reasons``      why a speedup is not higher, as one sentence
``wording``      times and sizes in sentences
``statistics``   medians and their intervals
``equality``     whether two back ends gave the same
``checks``       the checks of a file, on results
===============  ==================================================================================================
"""
