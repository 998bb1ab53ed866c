"""See below.

diff     What has changed from one run folder to another: what was asked, with what code and versions, on what, how long
find     Where run folders lie, how a new one is made, and which one a name means.
read     One run folder: what its files say, in whatever state a run, a kill or time has left them.
result   runs.history.result.
schema   The parts of ``report.json`` that are read here, held to their types; everything else in it is passed over.
verdict  Whether a run is faster than another one, or why that can't be said.
"""
