"""Run folders that are there: found, read, and compared with each other.

diff     What changed from one run folder to another: config, code, versions, machine, inputs, graph, and times.
find     Which run folders there are, and which of them a text such as ``NAME~1`` means.
read     Read one run folder, whatever state a run, a kill or an older version has left it in.
result   The values that a comparison of two run folders returns.
schema   The parts of the JSON files of run folders that are read again, with their types; other parts are ignored.
verdict  Whether one run is faster than another, or why that is unknown.
"""
