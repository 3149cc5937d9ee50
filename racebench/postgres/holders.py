"""Asks the server which open transactions have an xid: those may hold a consumer back.

A snapshot's xmin is the lowest xid in progress in the whole cluster, so a transaction of another database counts. A
session that is idle in a transaction without an xid, and a replication slot's xmin, hold back VACUUM and no consumer.
Other roles' sessions show their xid and application name to everyone, the rest only to pg_read_all_stats.
"""

from __future__ import annotations

import re
from typing import Any

import psycopg

from racebench.core.liveness import Holder
from racebench.core.passwords import masked
from racebench.core.plain_text import one_line

#: The most transactions that are told of.
MOST = 4
_STATEMENT = 60

_QUESTION = """
WITH oldest AS MATERIALIZED (SELECT pg_snapshot_xmin(pg_current_snapshot())::xid AS xid), open AS (
    SELECT pid, application_name AS name, datname AS database, state, backend_xid AS xid,
           clock_timestamp() - xact_start AS open_for, clock_timestamp() - state_change AS state_for,
           CASE WHEN state IS NULL THEN '' ELSE query END AS statement
    FROM pg_stat_activity
    WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL
    SELECT NULL, gid, database, 'prepared', transaction, clock_timestamp() - prepared, NULL, '' FROM pg_prepared_xacts
)
SELECT pid, name, coalesce(database, ''), coalesce(state, ''), xid::text::bigint,
       (extract(epoch FROM open_for) * 1000)::float8, (extract(epoch FROM state_for) * 1000)::float8, statement,
       xid = (SELECT xid FROM oldest) AS is_oldest
FROM open
ORDER BY is_oldest DESC, open_for DESC NULLS LAST
LIMIT %s
"""

#: A query that takes or skips locks, or that reads the transaction of a row.
_OF_TRANSACTIONS = re.compile(
    r"\b(?:UPDATE|DELETE|INSERT|MERGE|SHARE|LOCKED|EXECUTE|xmin|xmax|age)\b|U&\"", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d][\w$]*")
#: Whether something of these names, or an operator or a cast of a user, may ask which transactions are in progress.
_MAY_ASK = r"""
SELECT EXISTS (
    SELECT FROM pg_proc WHERE lower(proname) = ANY(%(names)s) AND proname <> 'pg_xact_commit_timestamp'
    AND (pronamespace <> 'pg_catalog'::regnamespace OR provolatile = 'v' OR proname ~ '^(pg|txid)_|_to_xml')
) OR EXISTS (
    SELECT FROM pg_class WHERE lower(relname) = ANY(%(names)s)
    AND (relkind NOT IN ('r', 'p', 'i', 'I', 'S', 't') OR relrowsecurity)
) OR EXISTS (SELECT FROM pg_operator WHERE oprnamespace <> 'pg_catalog'::regnamespace)
OR EXISTS (
    SELECT FROM pg_cast JOIN pg_proc ON pg_proc.oid = castfunc WHERE pronamespace <> 'pg_catalog'::regnamespace
)
"""


def may_be_held_back(connection: psycopg.Connection[Any], query: str) -> bool:
    """Whether what a query returns may depend on other transactions that are in progress; if in doubt, it may.

    It does not if the query reads tables only, and calls PostgreSQL's own functions of values only: a row that is
    committed is in its snapshot, whatever transactions are open. Raises psycopg.Error.
    """
    if _OF_TRANSACTIONS.search(query):
        return True
    names = sorted({word.lower() for word in _WORD.findall(query)})
    return connection.execute(_MAY_ASK, {"names": names}).fetchone() != (False,)


def holders(connection: psycopg.Connection[Any]) -> tuple[Holder, ...]:
    """The oldest open transactions that have an xid, but for the connection's own. Raises psycopg.Error."""
    return tuple(
        Holder(
            pid=pid,
            name=one_line(name),
            database=one_line(database),
            state=state,
            xid=xid,
            open_ms=open_ms,
            state_ms=state_ms,
            statement=masked(one_line(statement))[:_STATEMENT],
            oldest=bool(is_oldest),
        )
        for pid, name, database, state, xid, open_ms, state_ms, statement, is_oldest in connection.execute(
            _QUESTION, (MOST,)
        )
    )
