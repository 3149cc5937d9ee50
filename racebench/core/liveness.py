"""Transactions that hold a consumer back, as values: who is open, and when that was seen.

Asking the server is racebench.postgres.holders'; how long a consumer was held back is racebench.analysis.liveness'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """An open transaction that has an xid, as pg_stat_activity or pg_prepared_xacts shows it.

    `name`: the application's, or the prepared transaction's, which has no `pid`. `state`: of the session; "" if it may
    not be seen. `open_ms`: since the transaction began, `state_ms`: since the session is in this state; None if it may
    not be seen. `statement`: how the session's last statement begins. `oldest`: no other transaction has a lower xid.
    """

    pid: int | None
    name: str
    database: str
    state: str
    xid: int
    open_ms: float | None
    state_ms: float | None
    statement: str
    oldest: bool

    @property
    def key(self) -> tuple[int | None, int]:
        """What tells it from others."""
        return self.pid, self.xid

    def __str__(self) -> str:
        """The transaction in words: "session 4711 ('psql', database shop, idle in transaction for 1.2 s, …)"."""
        what = f"prepared transaction '{self.name}'" if self.pid is None else f"session {self.pid}"
        parts = [f"'{self.name}'"] if self.pid is not None else []
        parts.append(f"database {self.database}")
        if self.pid is None:
            parts.append(f"prepared {_seconds(self.open_ms)} before")
        elif self.state:
            parts.append(f"{self.state} for {_seconds(self.state_ms)}")
            parts.append(f"open for {_seconds(self.open_ms)}")
        parts.append(f"xid {self.xid}")
        if self.statement:
            parts.append(f"last statement '{self.statement}'")
        return f"{what} ({', '.join(parts)})"


def listed(holders: Sequence[Holder]) -> str:
    """Transactions in words."""
    first, *others = map(str, holders)
    return first if not others else f"{first} and {', '.join(others)}"


def _seconds(ms: float | None) -> str:
    return "an unknown time" if ms is None else f"{ms / 1e3:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """The same transactions were open whenever the server was asked, from `first_ns` to `last_ns`.

    Times are perf_counter_ns. `holders`: as the last answer describes them, the oldest transaction first.
    """

    first_ns: int
    last_ns: int
    holders: tuple[Holder, ...]

    def older_than(self, time_ns: int) -> tuple[Holder, ...]:
        """The transactions that had begun by a time.

        Of one whose beginning may not be seen it is known only that it is the oldest.
        """
        return tuple(
            holder
            for holder in self.holders
            if (holder.oldest if holder.open_ms is None else self.last_ns - holder.open_ms * 1e6 <= time_ns)
        )
