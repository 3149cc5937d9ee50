"""Where a call of Python stands that does not come to its end: written to a file by a thread of the worker's process.

The process itself is in the call, and the database does not know the line.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from racebench.workloads.callables import position

_LOOK_SECONDS = 0.5


class Standing:
    """Follows this thread's calls, as a context manager; `path` is the file, which is there while a call lasts long.

    `begun` counts the calls, and what else may last. `idle`: the thread waits for racebench. `says`: where a call
    stands that is not in this process; "" for the line of the thread.
    """

    def __init__(self, path: Path) -> None:
        self.begun = 0
        self.idle = False
        self.says = ""
        self._path = path
        self._followed = threading.get_ident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="racebench standing", daemon=True)

    def __enter__(self) -> Standing:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        seen, written = -1, False
        while not self._ended.wait(_LOOK_SECONDS):
            with contextlib.suppress(OSError):  # a full disk, or the run has ended and its folder is deleted
                if self.begun == seen and not self.idle:
                    self._write(self.says or f"at {position(sys._current_frames().get(self._followed))}")
                    written = True
                elif written:
                    self._path.unlink()
                    written = False
            seen = self.begun

    def _write(self, text: str) -> None:
        """Write the file whole, beside it first."""
        part = self._path.with_name(f"{self._path.name}.partial")
        part.write_text(text, errors="replace")
        part.replace(self._path)


def standing_at(paths: Iterable[Path]) -> str:
    """Where the calls stand that have written so, as the end of a sentence; "" if none has."""
    places: Counter[str] = Counter()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # the call has come to its end
            places[path.read_text(errors="replace")] += 1
    return "".join(
        f"; {'1 call is' if count == 1 else f'{count} calls are'} {place}" for place, count in places.most_common()
    )
