"""What of the physical state of tables may matter to the code under test, besides the rows.

isolation.py makes that state; this module says whether it has to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from racebench.exploration.sessions.session import Session
from racebench.postgres.storage import Care

_ORDINARY = "btree"


class Physical:
    """Whether the physical state of tables may matter: what is in indexes besides the present rows, and dead rows.

    A serializable transaction locks the pages of an index that it visits, so which entries share a page decides whether
    another one is refused. A page of an index that is no B-tree may keep keys of rows that are gone, and a search goes
    by these. Source: README-SSI in PostgreSQL's source, "Index AM implementations".
    """

    def __init__(self, methods: Iterable[str], sessions: Sequence[Session]) -> None:
        self._methods = tuple(method for method in methods if method != _ORDINARY)
        self._sessions = sessions
        self._serializable = False

    @property
    def serializable(self) -> bool:
        """Whether a transaction of the sessions may have been serializable so far."""
        self._serializable = self._serializable or any(session.serializable for session in self._sessions)
        return self._serializable

    @property
    def care(self) -> Care:
        """How much of it is to be the same before each schedule, as far as is known by now."""
        if self.decides:
            return Care.ALL
        return Care.PAGES if self._methods or self.serializable else Care.ROWS

    @property
    def decides(self) -> bool:
        """Whether an anomaly may show in one physical state only."""
        return bool(self._methods) and self.serializable

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it may matter, as clauses."""
        named = " and ".join(self._methods)
        several = "indexes have the access methods" if len(self._methods) > 1 else "an index has the access method"
        return (
            *((f"{several} {named}",) if self._methods else ()),
            *(("transactions are serializable",) if self.serializable else ()),
        )
