"""The prepared walkthroughs. The tests run each of them, and check every caption against its step."""

from __future__ import annotations

from racebench.demo.presentation import Caption, Walkthrough, WalkthroughPart
from racebench.exploration.choices import Cut

_BEGIN_1 = Caption(
    session=1, statement="BEGIN", text="Session 1 begins: a user has saved a document, and the event needs a number."
)
_BEGIN_2 = Caption(session=2, statement="BEGIN", text="Session 2 begins: another user, at the same moment.")
_MAX = "SELECT coalesce(max(version), 0) + 1"
_POLL = "SELECT id, version"

_TWIN = WalkthroughPart(
    strategy="naive",
    consumer="cursor",
    opening="Two sessions number one row each: read the highest version, add one, insert. A consumer polls for rows.",
    note="Ask who has written SELECT max + 1. The consumer keeps the last version it saw and asks for higher ones.",
    expected={"duplicates": 1, "missed": 1},
    closing="Two rows have the same version. The consumer delivered one; its cursor passed the other without error.",
    captions=(
        _BEGIN_1,
        Caption(
            session=1,
            statement=_MAX,
            answer="version = ",
            text="Session 1 reads the highest version and adds one: its row will be version {version}.",
        ),
        Caption(
            session=2,
            statement="BEGIN",
            text="Session 2 begins: another user, at the same moment.",
            note="This is rare on a laptop. With four workers behind a load balancer it happens every day.",
        ),
        Caption(
            session=2,
            statement=_MAX,
            answer="version = ",
            text="Session 2 reads the same maximum, because session 1 has not committed. It gets {version} too.",
            note="Pause here. The race has happened; every step from now on is ordinary.",
        ),
        Caption(
            session=1, statement="INSERT", answer="1 row", text="Session 1 inserts its row. Only session 1 sees it."
        ),
        Caption(session=1, statement="COMMIT", text="Session 1 commits. Now every session sees its row."),
        Caption(
            session=3,
            statement=_POLL,
            answer="1 new",
            text="The consumer polls and is given that row. Its cursor moves to version {version}.",
        ),
        Caption(
            session=2,
            statement="INSERT",
            answer="1 row",
            text="Session 2 inserts its row with the version it read before. No error: no constraint forbids it.",
        ),
        Caption(session=2, statement="COMMIT", text="Session 2 commits. Two rows have the same version."),
        Caption(
            session=3,
            statement=_POLL,
            answer="0 new",
            text="The consumer asks for versions above {version}. There are none: the second row is never delivered.",
            note="No log line, no exception, no alert. The missing row is found weeks later, if at all.",
        ),
    ),
)

_ERROR = WalkthroughPart(
    strategy="unique",
    consumer="cursor",
    opening="The same code with a UNIQUE constraint on the version. Duplicates are now impossible.",
    note="This is what most people try first. It is not wrong: it makes the race visible.",
    expected={"refused": 1},
    closing="No duplicate and no missed row, but one of two users got an error.",
    captions=(
        _BEGIN_1,
        Caption(
            session=1,
            statement=_MAX,
            answer="version = ",
            text="Session 1 reads the highest version plus one: {version}.",
        ),
        _BEGIN_2,
        Caption(
            session=2,
            statement=_MAX,
            answer="version = ",
            text="Session 2 reads the same maximum: it gets {version} too.",
        ),
        Caption(
            session=1,
            statement="INSERT",
            answer="1 row",
            text="Session 1 inserts its row. Its key is in the index at once.",
        ),
        Caption(
            session=2,
            statement="INSERT",
            answer="waits for s1",
            text="Session 2 inserts the same key and has to wait: the result depends on whether session 1 commits.",
            note="A unique index works like a lock: an equal key waits for the first key's transaction to end.",
        ),
        Caption(
            session=1,
            statement="COMMIT",
            answer="s2 goes on: ERROR 23505",
            text="Session 1 commits. Now the server refuses session 2: duplicate key. Its user gets HTTP 500.",
            note="The error is intermittent: it needs two users within milliseconds, so a bug report rarely shows how.",
        ),
        Caption(session=3, statement=_POLL, answer="1 new", text="The consumer polls and is given the only row."),
    ),
)

_SLOW = WalkthroughPart(
    strategy="sequence",
    consumer="cursor",
    opening="The version comes from a sequence, which never returns a number twice. Many guides advise it.",
    note="Let the audience vote first. Most will say yes: it is the usual advice against SELECT max + 1.",
    expected={"missed": 1},
    closing="Every version is unique, but a row is missed: versions were assigned in one order, committed in another.",
    captions=(
        _BEGIN_1,
        Caption(
            session=1,
            statement="INSERT",
            answer="version = ",
            text="Session 1 inserts, and the sequence gives it version {version}. Its commit is slow.",
            note="Possible reasons: a call to another service, a full disk queue, a garbage collection.",
        ),
        _BEGIN_2,
        Caption(
            session=2,
            statement="INSERT",
            answer="version = ",
            text="Session 2 inserts and gets version {version}. A sequence never makes a session wait, so it is fast.",
        ),
        Caption(
            session=2,
            statement="COMMIT",
            text="Session 2 commits first. The higher version is visible, the lower one is not.",
        ),
        Caption(
            session=3,
            statement=_POLL,
            answer="1 new",
            text="The consumer polls and is given the visible row. Its cursor moves to {version}, past the slow row.",
            note="Pause here, and ask where the row of session 1 will be for this consumer.",
        ),
        Caption(
            session=1, statement="COMMIT", text="Now session 1 commits. Its row becomes visible behind the cursor."
        ),
        Caption(
            session=3,
            statement=_POLL,
            answer="0 new",
            text="The consumer asks for versions above {version}. The row of session 1 is below: never delivered.",
        ),
    ),
)

_LOCK = WalkthroughPart(
    strategy="advisory",
    consumer="cursor",
    opening="One more statement: an advisory lock before the SELECT, held until COMMIT. One session numbers at a time.",
    note="The first of two fixes. Use it if you can change the writing code.",
    closing="Two rows, two versions, both delivered. The only price: one session had to wait.",
    captions=(
        _BEGIN_1,
        Caption(session=1, statement="SELECT pg_advisory_xact_lock", text="Session 1 requests the lock and gets it."),
        Caption(
            session=1,
            statement=_MAX,
            answer="version = ",
            text="Session 1 reads the highest version plus one: {version}.",
        ),
        _BEGIN_2,
        Caption(
            session=2,
            statement="SELECT pg_advisory_xact_lock",
            answer="waits for s1",
            text="Session 2 requests the same lock and has to wait. It has not read anything yet: this is essential.",
            note="The lock is a statement of its own. Inside the SELECT it would be too late.",
        ),
        Caption(session=1, statement="INSERT", answer="1 row", text="Session 1 inserts its row."),
        Caption(
            session=1,
            statement="COMMIT",
            answer="s2 goes on",
            text="Session 1 commits, which releases the lock. Session 2 gets it.",
        ),
        Caption(
            session=3,
            statement=_POLL,
            answer="1 new",
            text="The consumer polls and is given the row. Its cursor is at {version}.",
        ),
        Caption(
            session=2,
            statement=_MAX,
            answer="version = ",
            text="Session 2 reads the maximum only now, and sees the row that session 1 committed: it gets {version}.",
        ),
        Caption(session=2, statement="INSERT", answer="1 row", text="Session 2 inserts its row."),
        Caption(
            session=2,
            statement="COMMIT",
            text="Session 2 commits. Versions become visible in the order of their numbers.",
        ),
        Caption(
            session=3,
            statement=_POLL,
            answer="1 new",
            text="The consumer polls and is given the second row. No row is behind its cursor.",
        ),
    ),
)

_HORIZON = WalkthroughPart(
    strategy="sequence",
    consumer="horizon",
    opening="Or leave the writing code alone and fix the consumer: it reads a row once no row can appear before it.",
    note="The second fix. Use it if you can change only the consumer. Each row stores its transaction's number (xid).",
    closing="No session had to wait, and both rows are delivered. The price: a long transaction delays the consumer.",
    captions=(
        _BEGIN_1,
        Caption(
            session=1,
            statement="INSERT",
            answer="version = ",
            text="Session 1 inserts version {version}. Its commit is slow.",
        ),
        _BEGIN_2,
        Caption(session=2, statement="INSERT", answer="version = ", text="Session 2 inserts version {version}."),
        Caption(session=2, statement="COMMIT", text="Session 2 commits first, as before: the dangerous moment."),
        Caption(
            session=3,
            statement="SELECT id, version, xid",
            answer="0 new",
            text="The consumer polls and does not read the row: an older transaction is still running.",
            note="pg_snapshot_xmin(pg_current_snapshot()): every transaction below this number has ended.",
        ),
        Caption(session=1, statement="COMMIT", text="Session 1 commits. No older transaction is running now."),
        Caption(
            session=3,
            statement="SELECT id, version, xid",
            answer="2 new",
            text="The consumer polls and is given {new} rows. No row can appear before them any more.",
        ),
    ),
)

_LATE = WalkthroughPart(
    strategy="lock-after-select",
    consumer="cursor",
    opening="LOCK TABLE before the INSERT, so that one session writes at a time: one statement too late.",
    note="Code reviews often accept it: there is a lock, so it looks safe.",
    expected={"duplicates": 1, "missed": 1},
    closing="Session 2 waited, but what it had read before the lock was out of date: a duplicate, and a missed row.",
    captions=(
        _BEGIN_1,
        Caption(
            session=1,
            statement=_MAX,
            answer="version = ",
            text="Session 1 reads the highest version plus one: {version}.",
        ),
        _BEGIN_2,
        Caption(
            session=2,
            statement=_MAX,
            answer="version = ",
            text="Session 2 reads it too: {version}. Nothing is locked yet.",
        ),
        Caption(
            session=1, statement="LOCK TABLE", text="Session 1 locks the table. It is alone now, and seems to be safe."
        ),
        Caption(
            session=2,
            statement="LOCK TABLE",
            answer="waits for s1",
            text="Session 2 requests the lock and waits, as it should. But it has already read its version.",
            note="Ask how this differs from the right strategy. Only the place of one statement differs.",
        ),
        Caption(session=1, statement="INSERT", answer="1 row", text="Session 1 inserts its row."),
        Caption(
            session=1,
            statement="COMMIT",
            answer="s2 goes on",
            text="Session 1 commits and releases the lock. Session 2 gets it, and does not read again.",
        ),
        Caption(
            session=3,
            statement=_POLL,
            answer="1 new",
            text="The consumer polls and is given the row. Its cursor is at {version}.",
        ),
        Caption(
            session=2,
            statement="INSERT",
            answer="1 row",
            text="Session 2 inserts its row with the version that it read before it waited.",
        ),
        Caption(session=2, statement="COMMIT", text="Session 2 commits: a duplicate, in spite of the lock."),
        Caption(
            session=3,
            statement=_POLL,
            answer="0 new",
            text="The consumer asks for versions above {version}. There are none: the second row is never delivered.",
        ),
    ),
)

_SEARCH = "SELECT count(*)"
_FREE = "taken = 0"

_GIST = WalkthroughPart(
    strategy="serializable-gist",
    consumer=None,
    opening="A room is booked if a search finds it free, in one SERIALIZABLE transaction. It uses a GiST index.",
    note="SERIALIZABLE promises the outcome of some serial order. So an application should need no lock for this.",
    expected={"violations": 1},
    closing="The room is booked twice, without an error. One after the other, the second would have found the first.",
    captions=(
        Caption(
            session=1,
            statement="BEGIN",
            text="Session 1 begins at SERIALIZABLE. PostgreSQL notes what it reads, as locks that block no session.",
        ),
        Caption(
            session=1,
            statement=_SEARCH,
            answer=_FREE,
            text="Session 1 searches: free. No key of the root covers these hours, so it reads the root page alone.",
            note="pg_locks shows it: one SIReadLock, on page 0 of the index.",
        ),
        Caption(session=2, statement="BEGIN", text="Session 2 begins at SERIALIZABLE too."),
        Caption(
            session=2,
            statement=_SEARCH,
            answer=_FREE,
            text="Session 2 searches the same hours: free. It has a lock on the root as well, and on no other page.",
        ),
        Caption(
            session=1,
            statement="INSERT",
            answer="1 row",
            text="Session 1 inserts. A key of the root grows, and session 2 has read the root: one conflict is noted.",
            note="That is one conflict. Alone it is harmless: session 2 could still come first in a serial order.",
        ),
        Caption(
            session=2,
            statement="INSERT",
            answer="1 row",
            text="Session 2 inserts. The key is wide enough now: only a leaf changes, which session 1 has never read.",
            note="Pause here. PostgreSQL looks for locks only on pages that it changes: the second conflict is missed.",
        ),
        Caption(session=1, statement="COMMIT", text="Session 1 commits."),
        Caption(
            session=2,
            statement="COMMIT",
            text="Session 2 commits too. PostgreSQL knows one conflict of two, and refuses neither session.",
            note="No timing is needed: it happens in every order in which both search first. See docs/findings.",
        ),
    ),
)

_SPGIST = WalkthroughPart(
    strategy="serializable-spgist",
    consumer=None,
    opening="The same transactions with an SP-GiST index. It has no locks on pages: a search locks the whole index.",
    note="Only one word of the schema differs. A B-tree on the day is right too.",
    closing="One booking. The price: session 2 was refused and tried again, as every SERIALIZABLE application must.",
    captions=(
        Caption(session=1, statement="BEGIN", text="Session 1 begins at SERIALIZABLE."),
        Caption(
            session=1,
            statement=_SEARCH,
            answer=_FREE,
            text="Session 1 searches: the room is free. It has a lock on the whole index.",
        ),
        Caption(session=2, statement="BEGIN", text="Session 2 begins at SERIALIZABLE."),
        Caption(session=2, statement=_SEARCH, answer=_FREE, text="Session 2 searches: free. It has such a lock too."),
        Caption(
            session=1,
            statement="INSERT",
            answer="1 row",
            text="Session 1 inserts into an index that session 2 has read: one conflict.",
        ),
        Caption(
            session=2,
            statement="INSERT",
            answer="1 row",
            text="Session 2 inserts into an index that session 1 has read: the second conflict. The two form a cycle.",
        ),
        Caption(session=1, statement="COMMIT", text="Session 1 commits first, so session 2 will be refused."),
        Caption(
            session=2,
            statement="COMMIT",
            answer="ERROR 40001",
            text="The server refuses session 2: there is no serial order for both. The application tries again.",
        ),
        Caption(session=2, statement="BEGIN", text="Session 2 begins again, with a new snapshot."),
        Caption(
            session=2,
            statement=_SEARCH,
            answer="taken = 1",
            text="Session 2 searches, and finds the booking of session 1: the room is taken.",
        ),
        Caption(session=2, statement="COMMIT", text="Session 2 commits without a booking."),
    ),
)

_INSERT_ORDER = "INSERT INTO orders"

_LOST_ANSWER = WalkthroughPart(
    strategy="retry-lost",
    consumer=None,
    sessions=1,
    opening="A customer presses Buy once. The client sends the order, and sends it again if it gets no answer.",
    note="Ask who has a retry around a request. HTTP clients, job queues and connection pools have one built in.",
    expected={"violations": 1},
    closing="One request, two orders. No other session was there: the network alone is enough.",
    captions=(
        Caption(session=1, statement="BEGIN", text="The client begins. Its request has a number, which it keeps."),
        Caption(session=1, statement=_INSERT_ORDER, answer="1 row", text="It inserts the order."),
        Caption(
            session=1,
            statement="COMMIT",
            cut=Cut.AFTER,
            text="The server commits. Its answer is lost: the connection breaks, and the client sees an error.",
            note="Pause here. What does the client know? Neither that the order is there, nor that it is not.",
        ),
        Caption(session=1, statement="BEGIN", text="The client connects again, and begins a second try."),
        Caption(
            session=1,
            statement=_INSERT_ORDER,
            answer="1 row",
            text="It inserts the order again. The server cannot know that it is the same one.",
        ),
        Caption(session=1, statement="COMMIT", text="The second try commits, and this time the answer arrives."),
    ),
)

_KEY = WalkthroughPart(
    strategy="idempotency-key",
    consumer=None,
    sessions=1,
    opening="The request's number is UNIQUE now, and the INSERT does nothing if a row has it already.",
    note="The key must be the client's, made before the first try; one made by the server is new in each try.",
    closing="One request, one order. The second try found the first: sending again is harmless.",
    captions=(
        Caption(session=1, statement="BEGIN", text="The client begins, with the same request."),
        Caption(session=1, statement=_INSERT_ORDER, answer="1 row", text="It inserts the order, with its key."),
        Caption(
            session=1,
            statement="COMMIT",
            cut=Cut.AFTER,
            text="The server commits, and the answer is lost as before.",
        ),
        Caption(session=1, statement="BEGIN", text="The client connects again, and begins a second try."),
        Caption(
            session=1,
            statement=_INSERT_ORDER,
            answer="0 rows",
            text="The key is there already: nothing is inserted, and nothing is refused.",
        ),
        Caption(
            session=1, statement="COMMIT", text="The second try commits. Now the client knows that its order is there."
        ),
    ),
)

WALKTHROUGHS = {
    walkthrough.name: walkthrough
    for walkthrough in (
        Walkthrough(
            name="twin",
            title="Two rows with one version",
            summary="SELECT max + 1, then INSERT: two rows get one version, and the consumer misses the second",
            parts=(_TWIN,),
            fix="advisory",
        ),
        Walkthrough(
            name="error-500",
            title="The intermittent error 500",
            summary="a UNIQUE constraint turns the duplicate into an error that one of two users gets",
            parts=(_ERROR,),
            fix="unique-retry",
        ),
        Walkthrough(
            name="slow-commit",
            title="The fix that does not work",
            summary="a sequence: every version is unique, and the consumer still misses the row of a slow commit",
            parts=(_SLOW,),
            fix="advisory-nextval",
        ),
        Walkthrough(
            name="fix",
            title="Two fixes that work",
            summary="an advisory lock held until COMMIT; or a consumer that reads below the horizon",
            parts=(_LOCK, _HORIZON),
        ),
        Walkthrough(
            name="late-lock",
            title="The lock that comes too late",
            summary="LOCK TABLE between the SELECT and the INSERT: the second session waits with an old version",
            parts=(_LATE,),
            fix="table-lock",
        ),
        Walkthrough(
            name="gist",
            title="The hole in SERIALIZABLE",
            summary="a search by a GiST index under SERIALIZABLE: a room is booked twice; with SP-GiST it is not",
            parts=(_GIST, _SPGIST),
            fix="exclude-skip",
            scenario="double-booking",
        ),
        Walkthrough(
            name="lost-answer",
            title="The answer that was lost",
            summary="the connection breaks behind a COMMIT: a client that sends again places its order twice",
            parts=(_LOST_ANSWER, _KEY),
            scenario="lost-answer",
        ),
    )
}


def of_strategy(scenario: str, strategy: str) -> Walkthrough | None:
    """The walkthrough that begins with a strategy."""
    for walkthrough in WALKTHROUGHS.values():
        if walkthrough.scenario == scenario and walkthrough.parts[0].strategy == strategy:
            return walkthrough
    return None
