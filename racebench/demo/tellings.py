"""The tellings that are ready to give. Each is run by the tests, which hold every sentence to its step."""

from __future__ import annotations

from racebench.demo.telling import Act, Beat, Telling

_BEGIN_1 = Beat(
    session=1, sends="BEGIN", says="Session 1 begins: a user has pressed Save, and the event needs a number."
)
_BEGIN_2 = Beat(session=2, sends="BEGIN", says="Session 2 begins: another user, the same moment.")
_MAX = "SELECT coalesce(max(version), 0) + 1"
_POLL = "SELECT id, version"

_TWIN = Act(
    strategy="naive",
    consumer="cursor",
    opening="Two sessions number a row each: read the highest version, add one, insert. A consumer polls for new ones.",
    note="Ask the room who has written SELECT max + 1. The consumer keeps the last version it saw, and asks for more.",
    claims={"duplicates": 1, "missed": 1},
    closing="Two rows have the same version. The consumer saw one, its cursor has passed the other: lost, silently.",
    beats=(
        _BEGIN_1,
        Beat(
            session=1,
            sends=_MAX,
            sees="version = ",
            says="Session 1 reads the highest version and adds one: its row will be version {version}.",
        ),
        Beat(
            session=2,
            sends="BEGIN",
            says="Session 2 begins: another user, the same moment.",
            note="On a laptop this moment never comes. With four workers behind a load balancer it does, every day.",
        ),
        Beat(
            session=2,
            sends=_MAX,
            sees="version = ",
            says="Session 2 reads the same maximum, because nothing of session 1 is committed. It gets {version} too.",
            note="Pause here. From now on the harm is done; nothing that follows is unusual.",
        ),
        Beat(session=1, sends="INSERT", sees="1 row", says="Session 1 inserts its row. Nobody else sees it yet."),
        Beat(session=1, sends="COMMIT", says="Session 1 commits. Its row is in the table, and everybody sees it."),
        Beat(
            session=3,
            sends=_POLL,
            sees="1 new",
            says="The consumer polls and is given that row. Its cursor moves to version {version}.",
        ),
        Beat(
            session=2,
            sends="INSERT",
            sees="1 row",
            says="Session 2 inserts its row with the number it has in hand. No error: nothing forbids it.",
        ),
        Beat(session=2, sends="COMMIT", says="Session 2 commits. The row is a twin: the same version, twice."),
        Beat(
            session=3,
            sends=_POLL,
            sees="0 new",
            says="The consumer asks for versions above {version}. There are none: it will never be given the twin.",
            note="No log line, no exception, no alert. Somebody finds out at the end of the month.",
        ),
    ),
)

_ERROR = Act(
    strategy="unique",
    consumer="cursor",
    opening="The same code, and now a UNIQUE constraint on the version. No twins any more.",
    note="This is the first thing that everybody tries, and it is not wrong: it makes the race visible.",
    claims={"refused": 1},
    closing="No twin, nothing silently lost: but one of two users got an error..",
    beats=(
        _BEGIN_1,
        Beat(session=1, sends=_MAX, sees="version = ", says="Session 1 reads the highest version plus one: {version}."),
        _BEGIN_2,
        Beat(session=2, sends=_MAX, sees="version = ", says="Session 2 reads the same: {version}. As before."),
        Beat(
            session=1, sends="INSERT", sees="1 row", says="Session 1 inserts its row; its key is in the index at once."
        ),
        Beat(
            session=2,
            sends="INSERT",
            sees="waits for s1",
            says="Session 2 inserts the same key, and waits: whether it may depends on whether session 1 commits.",
            note="A unique index is a lock: the second of two equal keys waits for the first one's transaction.",
        ),
        Beat(
            session=1,
            sends="COMMIT",
            sees="s2 goes on: ERROR 23505",
            says="Session 1 commits, and at that moment the server refuses session 2: duplicate key. An HTTP 500.",
            note="Intermittent: it needs two users within milliseconds. Nobody can reproduce it from the bug report.",
        ),
        Beat(session=3, sends=_POLL, sees="1 new", says="The consumer is given the one row that there is."),
    ),
)

_SLOW = Act(
    strategy="sequence",
    consumer="cursor",
    opening="The number comes from a sequence: never the same twice. It is in every guide. Is it right?",
    note="Let the room vote first. Most will say yes: it is the textbook cure for SELECT max + 1.",
    claims={"missed": 1},
    closing="Every version is unique, and a row is lost all the same: given out in one order, committed in another.",
    beats=(
        _BEGIN_1,
        Beat(
            session=1,
            sends="INSERT",
            sees="version = ",
            says="Session 1 inserts, and the sequence gives it version {version}. It is slow to commit.",
            note="Slow can be a call to another service, a full disk queue, a garbage collection.",
        ),
        _BEGIN_2,
        Beat(
            session=2,
            sends="INSERT",
            sees="version = ",
            says="Session 2 inserts and gets version {version}. A sequence waits for nobody; that is why it is fast.",
        ),
        Beat(
            session=2, sends="COMMIT", says="Session 2 commits first. The higher version is visible, the lower is not."
        ),
        Beat(
            session=3,
            sends=_POLL,
            sees="1 new",
            says="The consumer polls, is given what it can see, and moves its cursor to {version}: past the slow row.",
            note="Pause here, and ask where the row of session 1 will be for this consumer.",
        ),
        Beat(session=1, sends="COMMIT", says="Now session 1 commits. Its row appears behind the cursor."),
        Beat(
            session=3,
            sends=_POLL,
            sees="0 new",
            says="The consumer asks for versions above {version}. The row of session 1 is below: never delivered.",
        ),
    ),
)

_LOCK = Act(
    strategy="advisory",
    consumer="cursor",
    opening="One line more: an advisory lock before the SELECT, held until COMMIT. One numbers at a time.",
    note="The first of two cures, for whoever can change the writers.",
    closing="Two rows, two versions, both delivered. One session had to wait: that is the price, and all of it.",
    beats=(
        _BEGIN_1,
        Beat(session=1, sends="SELECT pg_advisory_xact_lock", says="Session 1 asks for the lock and has it."),
        Beat(session=1, sends=_MAX, sees="version = ", says="It reads the maximum plus one: {version}."),
        _BEGIN_2,
        Beat(
            session=2,
            sends="SELECT pg_advisory_xact_lock",
            sees="waits for s1",
            says="Session 2 asks for the same lock, and waits. It has read nothing yet: that is the point.",
            note="The lock is a statement of its own. Inside the SELECT it would come too late.",
        ),
        Beat(session=1, sends="INSERT", sees="1 row", says="Session 1 inserts its row, at leisure."),
        Beat(
            session=1,
            sends="COMMIT",
            sees="s2 goes on",
            says="Session 1 commits. That lets go of the lock, and session 2 has it.",
        ),
        Beat(session=3, sends=_POLL, sees="1 new", says="The consumer is given the row; its cursor is at {version}."),
        Beat(
            session=2,
            sends=_MAX,
            sees="version = ",
            says="Session 2 reads the maximum only now, and sees what session 1 committed: it gets {version}.",
        ),
        Beat(session=2, sends="INSERT", sees="1 row", says="It inserts."),
        Beat(session=2, sends="COMMIT", says="It commits. Versions become visible in the order of their numbers."),
        Beat(session=3, sends=_POLL, sees="1 new", says="The consumer is given the second row. Nothing is behind it."),
    ),
)

_HORIZON = Act(
    strategy="sequence",
    consumer="horizon",
    opening="Or leave the writers alone and cure the consumer: it reads only what nothing can come before.",
    note="The second cure, for whoever can change only the reader. Each row keeps the number of its transaction (xid).",
    closing="Nobody had to wait but the consumer, and both rows arrive. Its price: one long transaction holds it up.",
    beats=(
        _BEGIN_1,
        Beat(
            session=1,
            sends="INSERT",
            sees="version = ",
            says="Session 1 inserts version {version}, and is slow to commit.",
        ),
        _BEGIN_2,
        Beat(session=2, sends="INSERT", sees="version = ", says="Session 2 inserts version {version}."),
        Beat(session=2, sends="COMMIT", says="Session 2 commits first, as before: the dangerous moment."),
        Beat(
            session=3,
            sends="SELECT id, version, xid",
            sees="0 new",
            says="The consumer polls and leaves the row alone: an older transaction still runs.",
            note="pg_snapshot_xmin(pg_current_snapshot()): every transaction below it has ended.",
        ),
        Beat(session=1, sends="COMMIT", says="Session 1 commits. Now there is nothing older that runs."),
        Beat(
            session=3,
            sends="SELECT id, version, xid",
            sees="2 new",
            says="The consumer polls and is given {new} rows, in an order in which nothing can appear any more.",
        ),
    ),
)

_LATE = Act(
    strategy="lock-after-select",
    consumer="cursor",
    opening="A lock, then: LOCK TABLE before the INSERT, so that one at a time writes. It is one line too late.",
    note="A favourite of code review: there is a lock, so it must be safe.",
    claims={"duplicates": 1, "missed": 1},
    closing="It waited, and it was no use: what it had read before the lock was old. A twin, and a row that is lost.",
    beats=(
        _BEGIN_1,
        Beat(session=1, sends=_MAX, sees="version = ", says="Session 1 reads the highest version plus one: {version}."),
        _BEGIN_2,
        Beat(
            session=2, sends=_MAX, sees="version = ", says="Session 2 reads it too: {version}. Nothing is locked yet."
        ),
        Beat(session=1, sends="LOCK TABLE", says="Session 1 locks the table. It is alone now, and safe. It thinks."),
        Beat(
            session=2,
            sends="LOCK TABLE",
            sees="waits for s1",
            says="Session 2 wants the lock and waits, as it should. But it waits with its number in hand.",
            note="Ask: what is different from the right one? Only the place of one line.",
        ),
        Beat(session=1, sends="INSERT", sees="1 row", says="Session 1 inserts."),
        Beat(
            session=1,
            sends="COMMIT",
            sees="s2 goes on",
            says="Session 1 commits, the lock is free, and session 2 has it. It does not read again.",
        ),
        Beat(session=3, sends=_POLL, sees="1 new", says="The consumer is given the row: its cursor is at {version}."),
        Beat(
            session=2, sends="INSERT", sees="1 row", says="Session 2 inserts the number that it read before it waited."
        ),
        Beat(session=2, sends="COMMIT", says="Session 2 commits: a twin, made under a lock."),
        Beat(
            session=3, sends=_POLL, sees="0 new", says="Nothing above {version}, says the consumer. The twin is lost."
        ),
    ),
)

TELLINGS = {
    telling.name: telling
    for telling in (
        Telling(
            name="twin",
            title="The twin",
            summary="SELECT max + 1, then INSERT: two rows with one version, and a consumer that never sees the second",
            acts=(_TWIN,),
            fix="advisory",
        ),
        Telling(
            name="error-500",
            title="The intermittent 500",
            summary="a UNIQUE constraint turns the silent twin into an error that one of two users gets",
            acts=(_ERROR,),
            fix="unique-retry",
        ),
        Telling(
            name="slow-commit",
            title="The fix that isn't",
            summary="a sequence: every number once, and a slow commit loses its row all the same",
            acts=(_SLOW,),
            fix="advisory-nextval",
        ),
        Telling(
            name="fix",
            title="The fix that is",
            summary="an advisory lock held to COMMIT; or a consumer that reads below the horizon",
            acts=(_LOCK, _HORIZON),
        ),
        Telling(
            name="late-lock",
            title="The lock that came too late",
            summary="LOCK TABLE between the SELECT and the INSERT: the second waits, with an old number in hand",
            acts=(_LATE,),
            fix="table-lock",
        ),
    )
}


def of_strategy(scenario: str, strategy: str) -> Telling | None:
    """The telling that begins with a strategy."""
    tellings = (each for each in TELLINGS.values() if each.scenario == scenario and each.acts[0].strategy == strategy)
    return next(tellings, None)
