"""What of the physical state of tables may matter to the code under test, besides the rows.

isolation.py makes that state; this module says whether it has to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from racebench.exploration.sessions.session import Session

_ORDINARY = "btree"


class Physical:
    """Whether the physical state of tables may matter: what is in indexes besides the present rows, and dead rows.

    A serializable transaction locks the pages of an index that it visits, so it may be refused, or not, on account of
    rows that are gone. Indexes that are no B-trees may keep the keys of such rows.
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
    def matters(self) -> bool:
        """Whether it may matter, as far as is known by now."""
        return bool(self._methods) or self.serializable

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
