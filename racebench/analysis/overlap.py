"""Whether operations of different sessions overlapped in time; if none did, no race could occur."""

from __future__ import annotations

import numpy as np

from racebench.analysis.checkers import Pass
from racebench.analysis.index import RowChunk
from racebench.history import Chunk

_BEFORE_ALL = -(2**62)


class Overlap(Pass):
    """Looks for two operations of different sessions, one of which began before the other ended.

    `found`: there are two. Of an operation that never ended only its first nanosecond is known to be its time.

    Each operation is compared with the one before it that ends last (of several the first). If that is of the same
    session, which a history of another program may have, an operation of a third session that overlaps with this one
    overlaps with that one too, and is found there. `slack_ns`: by so much they must overlap, because times of different
    machines may be wrong by that.
    """

    def __init__(self, slack_ns: int = 0) -> None:
        self.found = False
        self._slack_ns = slack_ns
        self._latest_end = _BEFORE_ALL
        self._latest_session = -1

    def rows(self, chunk: RowChunk) -> None:
        """Do nothing: rows have no time."""

    def operations(self, chunk: Chunk) -> None:
        if self.found:
            return
        ends = np.where(chunk.pending, chunk.start + 1, chunk.end)
        ends = np.concatenate([[self._latest_end], ends])
        sessions = np.concatenate([[self._latest_session], chunk.worker])
        latest = np.maximum.accumulate(ends)
        is_later = np.concatenate([[True], ends[1:] > latest[:-1]])
        owner = sessions[np.maximum.accumulate(np.where(is_later, np.arange(len(ends)), 0))]
        self.found = bool(((chunk.start < latest[:-1] - self._slack_ns) & (owner[:-1] != chunk.worker)).any())
        self._latest_end, self._latest_session = int(latest[-1]), int(owner[-1])
