"""A consumer's polling without I/O: what each poll sends, what its rows deliver, and when everything has been read.

One rule for both drivers: `load` and `exploration` send the query and hand over the rows that come back. How often a
consumer polls is theirs to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from racebench.core.errors import ScenarioProblem
from racebench.core.model import Consumer
from racebench.core.plain_text import one_line
from racebench.workloads.deduplication import Seen


class Page(Protocol):
    """The rows of one poll. psycopg's PGresult is one."""

    @property
    def ntuples(self) -> int: ...

    @property
    def nfields(self) -> int: ...

    def fname(self, column_number: int, /) -> bytes | None: ...

    def get_value(self, row_number: int, column_number: int, /) -> bytes | None: ...


class Delivery(NamedTuple):
    """What one poll delivered. A named tuple: a consumer makes one for every page, a thousand a second.

    `ids`: the delivered rows, in the query's order; if the consumer drops duplicates, only those not seen before.
    `new`: how many rows had not been seen before. `last`: the id of the page's last row, delivered or dropped.
    """

    ids: Sequence[int]
    new: int
    last: int


NOTHING = Delivery((), 0, 0)
_LEAST, _GREATEST = -(2**63), 2**63 - 1


def tenants(consumer: Consumer, count: int) -> range:
    """The tenants that a consumer polls one by one: 1 to `count`, or only 0 if one poll reads all of them."""
    return range(1, count + 1) if consumer.per_tenant else range(1)


class Cursor:
    """One consumer's cursor in one tenant: its columns' values, which start at the strategy's `zero` where asked.

    `seen` may be shared by the cursors of one consumer, so that a row counts as new only once.
    """

    def __init__(self, consumer: Consumer, *, tenant: int, zero: str, batch: int, seen: Seen) -> None:
        statement = consumer.script.statements[0]
        self._path = consumer.script.path
        self._parameters = statement.parameters
        self._dedupe = consumer.dedupe
        self._seen = seen
        self._fixed = {"tenant": b"%d" % tenant, "batch": b"%d" % batch}
        self._fixed |= {name: value.encode() for name, value in consumer.variables.items()}
        self.position = {name: (zero if text == "zero" else text).encode() for name, text in consumer.cursor.items()}
        #: The names of the last page's columns, and where those are that are read. Most pages have the same.
        self._names: list[bytes | None] = []
        self._columns: dict[str, int] = {}

    @property
    def variables(self) -> dict[str, bytes]:
        """Every variable that the query may use, with its value in the next poll."""
        return {**self._fixed, **self.position}

    def parameters(self) -> list[bytes]:
        """The values that the next poll sends, in the order of the query's parameters."""
        position, fixed = self.position, self._fixed
        return [position[name] if name in position else fixed[name] for name in self._parameters]

    def take(self, page: Page) -> Delivery:
        """Move the cursor past a page and return what it delivers.

        Each column of the cursor takes the value of the page's last row. A NULL leaves it as it was: no row compares
        with NULL, so the next poll would return nothing. A row whose id is NULL has id 0.
        Raises ScenarioProblem if the query does not return `id` and the cursor's columns.
        """
        rows = page.ntuples
        if not rows:
            return NOTHING
        names = [page.fname(column) for column in range(page.nfields)]
        if names != self._names:
            self._names, self._columns = names, self._columns_of(names)
        columns = self._columns
        id_column, is_first, dedupe, get_value = columns["id"], self._seen.add, self._dedupe, page.get_value
        ids: list[int] = []
        identity = new = 0
        for row in range(rows):
            value = get_value(row, id_column)
            try:
                identity = int(value or 0)
            except ValueError:
                raise self._not_an_id(value) from None
            is_new = is_first(identity)
            new += is_new
            if is_new or not dedupe:
                ids.append(identity)
        for name in self.position:
            value = get_value(rows - 1, columns[name])
            if value is not None:
                self.position[name] = value
        if ids and not (min(ids) >= _LEAST and max(ids) <= _GREATEST):
            raise self._not_an_id(b"%d" % next(one for one in ids if not _LEAST <= one <= _GREATEST))
        return Delivery(ids, new, identity)

    def _not_an_id(self, value: bytes | None) -> ScenarioProblem:
        text = one_line((value or b"").decode(errors="replace"))
        return ScenarioProblem(
            f"{self._path}:1: the consumer's query returned the id '{text}'; an id is an integer of 64 bits"
        )

    def _columns_of(self, raw_names: Sequence[bytes | None]) -> dict[str, int]:
        names = [(name or b"").decode() for name in raw_names]
        for wanted in ("id", *self.position):
            if wanted not in names:
                raise ScenarioProblem(
                    f"{self._path}:1: the consumer's query has no column '{wanted}'; it returns id and its "
                    "cursor's columns"
                )
        return {name: names.index(name) for name in ("id", *self.position)}


class Draining:
    """Decides when a consumer has read to the end, once no more rows are committed.

    It has after `quiet_rounds` rounds in a row without a new row, if either every row is there or nothing new came for
    `settle_s` seconds, the longest that the consumer may hold a row back. Only a round that begins after the settling
    time shows that what it does not deliver never comes. Times are seconds on one monotonic clock.
    """

    def __init__(self, *, settle_s: float, quiet_rounds: int, now_s: float) -> None:
        self._settle_s, self._quiet_rounds = settle_s, quiet_rounds
        self._quiet, self._quiet_since_s = 0, now_s
        self._began_s = now_s

    def begin_round(self, now_s: float) -> None:
        """A round of polls begins."""
        self._began_s = now_s

    def end_round(self, new: int, now_s: float, *, complete: bool) -> bool:
        """A round brought `new` rows; `complete`: every row is there. Return whether everything has been read."""
        if new:
            self._quiet, self._quiet_since_s = 0, now_s
            return False
        self._quiet += 1
        settled = self._began_s - self._quiet_since_s >= self._settle_s
        return self._quiet >= self._quiet_rounds and (complete or settled)
