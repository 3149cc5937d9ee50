"""The number of an account's followers is stored beside it, and counted anew with each follower.

As in Mastodon and Forem, whose counters went out of step. It looks atomic, but each UPDATE counts in a snapshot that
is older than the row lock for which it waits, and so does not see the other's follower. The fix locks the account
first.
"""

from __future__ import annotations

from . import Connection, Program

SCHEMA = """
CREATE TABLE accounts (id int PRIMARY KEY, followers int NOT NULL);
CREATE TABLE follows (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int NOT NULL);
INSERT INTO accounts VALUES (1, 0);
"""


def follow(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("INSERT INTO follows (account) VALUES (1)")
        connection.execute(
            "UPDATE accounts SET followers = (SELECT count(*) FROM follows WHERE account = 1) WHERE id = 1"
        )


def follow_behind_a_lock(connection: Connection) -> None:
    with connection.transaction():
        connection.execute("SELECT FROM accounts WHERE id = 1 FOR UPDATE")
        follow(connection)


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(follow,),
    fixed=(follow_behind_a_lock,),
    invariant="SELECT followers FROM accounts WHERE followers <> (SELECT count(*) FROM follows)",
)
