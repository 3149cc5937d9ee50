"""Removes what earlier schedules left in a session whose backend goes on, and says what is left.

Sends commands over libpq, past psycopg, on an idle connection. Only what code may have left (leftovers.py) is removed:
each schedule would wait for more. Which settings a session is to have is its owner's.
Source: PostgreSQL manual, DISCARD: what ends with a session.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from psycopg import pq, sql

from racebench.core.errors import DatabaseProblem
from racebench.core.faults import CONNECTION_LOST, stops_a_schedule
from racebench.core.plain_text import one_line
from racebench.exploration.faults import Fault
from racebench.exploration.leftovers import Leftover
from racebench.exploration.wire.connection import Backend

#: In this order: a cursor that is held reads a temporary table. What was prepared needs its names.
_COMMANDS = {
    Leftover.CURSORS: "CLOSE ALL",
    Leftover.LISTENING: "UNLISTEN *",
    Leftover.ADVISORY: "SELECT pg_advisory_unlock_all()",
    Leftover.TEMPORARY: "DISCARD TEMP",
    Leftover.NUMBERS: "DISCARD SEQUENCES",
}
#: To the values at the start of the session, those in its connection string included.
_RESET = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL"
#: Statements that SQL prepared; those of the protocol are their client's own.
_PREPARED = b"SELECT quote_ident(name) FROM pg_prepared_statements WHERE from_sql"
#: Settings that say what another command has done.
_DERIVED = frozenset(
    {"transaction_isolation", "transaction_read_only", "transaction_deferrable", "is_superuser", "in_hot_standby"}
)
#: What a session has left, each kind in the words of a sentence.
_KEPT = """
SELECT 'the setting ' || name FROM pg_show_all_settings() WHERE source = 'session' AND name <> ALL({settings})
UNION ALL SELECT 'the role ' || quote_ident(current_user) WHERE current_user <> session_user
UNION ALL SELECT 'the temporary table ' || quote_ident(relname) FROM pg_class
    WHERE relnamespace = pg_my_temp_schema() AND relkind IN ('r', 'p', 'v', 'S')
UNION ALL SELECT 'the prepared statement ' || quote_ident(name) FROM pg_prepared_statements WHERE from_sql
UNION ALL SELECT 'the cursor ' || quote_ident(name) FROM pg_cursors WHERE is_holdable
UNION ALL SELECT 'the channel ' || quote_ident(channel) FROM pg_listening_channels() AS channel
UNION ALL SELECT concat_ws(' ', 'the advisory lock', nullif(classid, 0), objid) FROM pg_locks
    WHERE locktype = 'advisory' AND pid = pg_backend_pid()
"""


def clean(pgconn: pq.abc.PGconn | Backend, left: Collection[Leftover], settings: Mapping[str, str]) -> None:
    """Remove what may be left; `settings`: those that the session has after a reset. Raises DatabaseProblem."""
    if Leftover.HIDDEN in left:
        left = frozenset(Leftover)
    commands = [command for leftover, command in _COMMANDS.items() if leftover in left]
    if Leftover.SETTINGS in left:
        commands += [_RESET, *(_set(name, value) for name, value in settings.items())]
    if Leftover.PREPARED in left:
        commands += [f"DEALLOCATE {name}" for name in _ask(pgconn, _PREPARED)]
    if commands:
        _ask(pgconn, "; ".join(commands).encode())


def kept(pgconn: pq.abc.PGconn | Backend, settings: Collection[str]) -> list[str]:
    """What an idle session has left, without these settings; raises DatabaseProblem."""
    return _ask(pgconn, sql.SQL(_KEPT).format(settings=sql.Literal([*settings])).as_bytes(None))


def settings(pgconn: pq.abc.PGconn | Backend, names: Collection[str]) -> dict[str, str]:
    """The settings of an idle session, with its role and with these settings of the code's own (leftovers.py)."""
    # SHOW ALL shows neither the role nor the code's own settings. One that is not known is empty after a reset.
    own = sql.SQL("SELECT name, coalesce(current_setting(name, true), '') FROM unnest({}::text[]) AS name")
    results = (pgconn.exec_(query) for query in (b"SHOW ALL", own.format([*names, "role"]).as_bytes(None)))
    return {
        (result.get_value(row, 0) or b"").decode(): (result.get_value(row, 1) or b"").decode(errors="replace")
        for result in results
        for row in range(result.ntuples)
    }


def put_back(pgconn: pq.abc.PGconn | Backend, before: Mapping[str, str], names: Collection[str]) -> None:
    """Give an idle session the settings that it had before; raises DatabaseProblem."""
    now = settings(pgconn, names)
    differing = {name: value for name, value in before.items() if now.get(name) != value and name not in _DERIVED}
    if differing:
        _ask(pgconn, "; ".join(_set(name, value) for name, value in differing.items()).encode())


def _set(name: str, value: str) -> str:
    # Not SET: the value of search_path is a list, and a name may have a dot.
    return sql.SQL("SELECT set_config({}, {}, false)").format(name, value).as_string(None)


def _ask(pgconn: pq.abc.PGconn | Backend, commands: bytes) -> list[str]:
    """The first column of the last result."""
    result = pgconn.exec_(commands)
    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        message = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
        sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        lost = pgconn.status == pq.ConnStatus.BAD
        what = "met a lost connection" if lost else "is refused between two schedules"
        said = f"'{one_line(commands.decode(errors='replace'))}' {what}: " + one_line(
            message or pgconn.get_error_message()
        )
        if lost or stops_a_schedule(sqlstate):
            raise Fault(said, sqlstate or CONNECTION_LOST)
        raise DatabaseProblem(said)
    return [(result.get_value(row, 0) or b"").decode(errors="replace") for row in range(result.ntuples)]
