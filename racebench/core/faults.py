"""Which SQLSTATEs say that the connection or the server failed, and not that a statement was refused.

One rule for both drivers. Such a fault comes from the surroundings of a run: no session caused it, so no strategy is
accused of it. Exceptions of an application's code are looked into by racebench.workloads.faults.
"""

from __future__ import annotations

#: Recorded when the connection ended without the server's saying why ("connection failure").
CONNECTION_LOST = "08006"

#: Classes of errors that one session causes another: integrity constraints, serialization failures and deadlocks.
_OF_SESSIONS = ("23", "40")
#: Expired and canceled: by a time-out of the role or the server, or by a person.
EXPIRED = frozenset({"57014", "25P03", "25P04"})
#: Insufficient resources (memory, disk, connections), and what the server's machine refuses.
_OF_THE_MACHINE = ("53", "58000", "58030")


def is_fault(sqlstate: str) -> bool:
    """Whether an error is a lost connection (class 08) or the end of the server or the session (57P01 to 57P05).

    Source: PostgreSQL's manual, appendix "PostgreSQL Error Codes".
    """
    return sqlstate.startswith(("08", "57P0"))


def stops_a_schedule(sqlstate: str) -> bool:
    """Whether an error says nothing of a schedule: a fault, a lack of resources, or a time-out that has expired.

    A schedule makes sessions wait for longer than they would by themselves.
    """
    return is_fault(sqlstate) or sqlstate in EXPIRED or sqlstate.startswith(_OF_THE_MACHINE)


def of_lost_connection(sqlstate: str, *, fatal: bool) -> str:
    """The SQLSTATE of a connection's end, from the server's last error ("" if there was none).

    Only an error that ends the session (FATAL, PANIC) explains it. An earlier refusal does not: its transaction may
    have been tried again had the connection stayed.
    """
    return sqlstate if fatal and sqlstate and not sqlstate.startswith(_OF_SESSIONS) else CONNECTION_LOST
