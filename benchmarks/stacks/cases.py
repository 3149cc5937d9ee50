"""What racebench must say of each stack: the verdict, and the number of schedules, without reduction.

Two requests of k steps that never wait have C(2k, k) schedules. BEGIN is no step unless something asks for its
time: a transaction of SELECT, INSERT, COMMIT has 3, and so has the same by autocommit, because an INSERT's own
COMMIT is a step. Under REPEATABLE READ the Parse that takes the snapshot is one too, if it is sent apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from benchmarks.stacks.stack import STACKS

ORDERS = "CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number int NOT NULL)"
UNIQUE = ORDERS.replace("number int NOT NULL", "number int NOT NULL UNIQUE")
#: Prisma's model and SQLAlchemy's have `id`, which the server draws.
DUPLICATES = "SELECT number FROM orders GROUP BY number HAVING count(*) > 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Operations of a stack that race each other, and what must be said of them.

    `operations`: one for each session if there is more than one, else all sessions have it. `variables`: of the
    environment. `anomalous`: how many schedules have an anomaly; None for any number. `says`: what the report contains.
    """

    name: str
    stack: str
    operations: tuple[str, ...] = ("transaction",)
    sessions: int = 2
    shared: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    setup: str = ORDERS
    invariant: str = DUPLICATES
    verdict: str
    schedules: int | None
    anomalous: int | None = None
    says: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.stack}, {self.name}"


def _ways(stack: str) -> tuple[Case, ...]:
    """The four ways that every stack has."""
    return (
        Case(name="transaction", stack=stack, verdict="INVALID", schedules=20),
        Case(name="autocommit", stack=stack, operations=("autocommit",), verdict="INVALID", schedules=20),
        Case(name="locked", stack=stack, operations=("locked",), verdict="VALID", schedules=8),
        Case(name="unique", stack=stack, operations=("unique",), setup=UNIQUE, verdict="VALID", schedules=14),
    )


def timed(setup: str) -> str:
    """The table with a default that asks when the transaction began, which makes BEGIN a step."""
    return setup.replace("number int", "made_at timestamptz DEFAULT now(), number int")


def _begun(stack: str) -> tuple[Case, ...]:
    """The four ways where BEGIN is a step."""
    schedules = {"transaction": 70, "autocommit": 20, "locked": 36, "unique": 50}
    return tuple(
        replace(
            case,
            name=f"{case.name}, BEGIN a step",
            setup=timed(case.setup),
            schedules=schedules[case.name],
        )
        for case in _ways(stack)
    )


WAYS = tuple(case for name in STACKS if name != "pg-client" for case in _ways(name))
SPECIAL = (
    *_begun("pg"),
    Case(name="simple protocol", stack="pg", operations=("simple",), verdict="INVALID", schedules=20),
    Case(name="batch with one Sync", stack="pgx", operations=("batch",), verdict="INVALID", schedules=20),
    Case(name="shared", stack="pg", shared=True, verdict="INVALID", schedules=20),
    Case(name="shared, pipelined", stack="postgres.js", shared=True, verdict="INVALID", schedules=20),
    Case(
        name="shared, pipelined, autocommit",
        stack="postgres.js",
        operations=("autocommit",),
        shared=True,
        verdict="INVALID",
        schedules=20,
    ),
    Case(
        name="pool of two for three",
        stack="pg",
        sessions=3,
        shared=True,
        variables={"POOL": "2"},
        verdict="INVALID",
        schedules=148,
    ),
    Case(
        name="Parse apart under REPEATABLE READ",
        stack="asyncpg",
        operations=("repeatable-read",),
        variables={"CACHE": "0"},
        verdict="INVALID",
        schedules=70,
        anomalous=68,
    ),
    Case(
        name="transaction in one query", stack="pg", operations=("whole",), verdict="INVALID", schedules=2, anomalous=0
    ),
    Case(name="after the response", stack="pg", operations=("afterwards",), verdict="INVALID", schedules=20),
    Case(
        name="after the response, shared",
        stack="asyncpg",
        operations=("afterwards",),
        shared=True,
        verdict="INVALID",
        schedules=20,
    ),
    Case(name="pool of one", stack="pg", variables={"POOL": "1"}, verdict="INVALID", schedules=20),
    Case(
        name="pool of one, shared",
        stack="pg",
        variables={"POOL": "1"},
        shared=True,
        verdict="VALID",
        schedules=None,
        says=("one instance of the service",),
    ),
    Case(name="mutex", stack="pg", operations=("mutex",), verdict="INVALID", schedules=20),
    Case(
        name="mutex, shared",
        stack="pg",
        operations=("mutex",),
        shared=True,
        verdict="VALID",
        schedules=None,
        says=("one instance of the service",),
    ),
    Case(
        name="mutex, both may be first",
        stack="pg",
        operations=("mutex", "clear"),
        shared=True,
        verdict="VALID",
        schedules=2,
    ),
    Case(name="two queries at once", stack="pg", operations=("both",), verdict="INVALID", schedules=280),
    Case(
        name="retry after 20 to 50 ms", stack="pg", operations=("backoff",), setup=UNIQUE, verdict="VALID", schedules=14
    ),
    Case(
        name="poller in the service",
        stack="pg",
        variables={"POLL": "5"},
        verdict="INVALID",
        schedules=20,
        says=("SELECT 1 AS poll FROM orders",),
    ),
    Case(
        name="behind a shell",
        stack="pg-program",
        before=("sh", "-c", 'sleep 0.1; "$0" "$@"'),
        verdict="INVALID",
        schedules=20,
    ),
    Case(
        name="one Client, shared",
        stack="pg-client",
        shared=True,
        verdict="UNKNOWN",
        schedules=None,
        says=("use one connection at once",),
    ),
)
CASES = {str(case): case for case in (*WAYS, *SPECIAL)}
