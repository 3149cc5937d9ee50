"""What a consumer on a hot standby missed although the same consumer on the primary, in the same run, did not."""

from __future__ import annotations

from collections.abc import Sequence

from racebench.analysis.checkers import Pass
from racebench.analysis.index import RowChunk
from racebench.core.model import Consumer
from racebench.history import Chunk, Log


class MissedOnlyThere(Pass):
    """The numbered rows that one log lacks and another has, by the places of the logs."""

    def __init__(self, standby: int, primary: int) -> None:
        self._standby, self._primary = standby, primary
        self.count = 0

    def rows(self, chunk: RowChunk) -> None:
        missed, delivered = chunk.first(self._standby) == 0, chunk.first(self._primary) != 0
        self.count += int((chunk.numbered & missed & delivered).sum())

    def operations(self, chunk: Chunk) -> None:
        """Do nothing: rows are enough."""


def on_standby(consumers: Sequence[Consumer], logs: Sequence[Log]) -> dict[int, MissedOnlyThere]:
    """By the place of each consumer on a standby, what compares it with its twin on the primary.

    Nothing where one of the two has not read to the end: it may still deliver the rows.
    """
    place = {consumer.name: number for number, consumer in enumerate(consumers)}
    return {
        number: MissedOnlyThere(number, twin)
        for number, consumer in enumerate(consumers)
        if consumer.on_standby
        and (twin := place.get(consumer.catalog_name)) is not None
        and logs[number].drained
        and logs[twin].drained
    }
