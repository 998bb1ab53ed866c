"""The back end ``manager``: a multiprocessing manager, whose queues workers of this and other machines join.

authkey          The key that a manager and its workers share: read from a file that nobody else can read.
connections      TCP connections: authenticated within a deadline, ended when the other side is gone.
fleet            The processes that have joined, and their workers: who is there, ready, silent, lost.
manager_backend  The back end, an executor of the loop in ``local/``.
member           A process that joins with one or several workers: what ``pipeline worker --join`` runs.
queues           The queues of a manager, jobs and results, and their proxies in the workers.
server           The server of a manager: its accept loop, and the handshake of each connection.
"""
