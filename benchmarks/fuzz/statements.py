"""The statements that the brute force sends for a session's actions, one by one.

BEGIN travels with the statement after it. A statement outside a transaction is BEGIN, statement, COMMIT, unless it only
reads. What travels in one round trip, but is several statements in one transaction, is sent as several.
"""

from __future__ import annotations

from collections.abc import Generator

import psycopg

from benchmarks.fuzz.interpreter import Rows, actions
from benchmarks.fuzz.program import Code

#: Yields a text that is sent at once ("" for none) and one that is the session's next step ("" for none).
Statements = Generator[tuple[str, str], Rows, None]


def statements(code: Code, *, script: bool) -> Statements:
    """The statements of a session; to be sent the rows that each returns, or thrown its refusal, which may come back.

    `script`: a session that is refused rolls back in the same step, as racebench's sessions of scripts do.
    """
    run, before, opened, failed, own = actions(code), "", False, False, False
    action = next(run)
    while True:
        rows: Rows = []
        try:
            if action.kind == "begin":
                before, opened = f"BEGIN ISOLATION LEVEL {action.texts[0] or 'READ COMMITTED'}", True
            elif action.kind in ("commit", "rollback"):
                sent, opened, before = opened and not before, False, ""
                if sent:
                    yield (action.kind, "") if script and failed else ("", action.kind)
            else:
                own = action.alone and not action.plain
                before = "BEGIN" if own else before
                several = [action.texts[0].replace("%s", str(value)) for value in action.values] or action.texts
                for text in several:
                    now, before = before, ""
                    rows = yield now, text
                if own:
                    yield "", "COMMIT"
                rows = rows if len(several) == 1 and not action.values else []
            failed = own = False
        except psycopg.Error as refusal:
            if own:
                yield "ROLLBACK", ""
            before, failed, own = "", True, False
            action = run.throw(refusal)
        else:
            try:
                action = run.send(rows)
            except StopIteration:
                return
