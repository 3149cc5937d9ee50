"""Operations that a lost machine has begun and not reported, as far as the table shows them: they are UNKNOWN.

Those that ended just before the machine was lost may be committed, and the record of them is gone with it. A row that
names such an operation proves that it, and those before it in its session, were begun.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from racebench.executors.shipping import append_unknown
from racebench.history.records import OPERATION, OPERATION_BITS, read_records
from racebench.history.spill import pieces
from racebench.load.run_files import RunFiles

_PIECE = 1 << 18


def add_begun(files: RunFiles, sessions: Iterable[int], rows: npt.NDArray[np.void], start_ns: int) -> None:
    """Append to the records of these sessions what the rows show; `start_ns`: the common start."""
    begun = dict.fromkeys(sessions, 0)
    for part in pieces(rows, _PIECE):
        numbers = part["operation"] >> OPERATION_BITS
        for session in np.intersect1d(numbers, np.array(sorted(begun))).tolist():
            last = int((part["operation"][numbers == session] & ((1 << OPERATION_BITS) - 1)).max())
            begun[session] = max(begun[session], last + 1)
    for session, count in begun.items():
        path = files.operations(session)
        if (more := count - len(read_records(path, OPERATION))) > 0:
            append_unknown(path, more, start_ns)
