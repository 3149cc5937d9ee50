"""Whether two effects differ only in the order in which the server returned rows.

Without ORDER BY the server returns rows in any order: mostly that in which they are stored, which is not that in which
they were inserted where dead rows have left room. So a list in another order is no sign of a race.
Source: PostgreSQL's manual, "Sorting Rows (ORDER BY)".
"""

from __future__ import annotations

from collections.abc import Collection

from racebench.exploration.oracle.canonical import Form, canonical
from racebench.exploration.oracle.defaults import Column
from racebench.exploration.oracle.effects import Effect, Oracle
from racebench.exploration.oracle.facts import facts
from racebench.exploration.oracle.labels import Labels


class RowOrder:
    """Compares effects. `seen`: one was answered with the rows of a serial order in another order."""

    def __init__(self, oracle: Oracle, labels: Labels, key: Column | None) -> None:
        self.seen = False
        self._oracle, self._labels, self._key = oracle, labels, key

    def is_all(self, effect: Effect, other: Effect, among: Collection[int]) -> bool:
        """Whether two effects do not differ, or in the order of what a call returned in a list alone."""
        return self._form(effect, among, self._oracle) == self._form(other, among, self._oracle)

    def of_answers(self, serial: Effect, effect: Effect, among: Collection[int]) -> bool:
        """Whether, beside that, every statement was answered with the same rows, in any order.

        Two values that a call read with two statements and returned in a list are not in one answer.
        """
        same = self._form(effect, among, Oracle.ANSWERS) == self._form(serial, among, Oracle.ANSWERS)
        self.seen |= same
        return same

    def _form(self, effect: Effect, among: Collection[int], oracle: Oracle) -> Form:
        return canonical(facts(effect, oracle, among, self._labels, self._key, ordered=False))
