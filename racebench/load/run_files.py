"""The folder of one run: a file for each session's operations, three for each consumer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from racebench.core.temporary import temporary_folder


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The paths of a run's files, none of which this makes."""

    folder: Path

    def operations(self, session: int) -> Path:
        """The operations of a session, numbered from 1 over all workers."""
        return self.folder / f"worker-{session}"

    def standing(self, session: int) -> Path:
        """Where a session's call stands that lasts long; of the process that calls alone, session 0."""
        return self.folder / f"standing-{session}"

    def deliveries(self, consumer: int) -> Path:
        """The rows delivered to a consumer, by its place in the run."""
        return self.folder / f"deliveries-{consumer}"

    def quiet(self, consumer: int) -> Path:
        """The stretches of polls that brought a consumer nothing, by its place in the run."""
        return self.folder / f"quiet-{consumer}"

    def polls(self, consumer: int) -> Path:
        """The polls of a consumer, by its place in the run."""
        return self.folder / f"polls-{consumer}"


@contextlib.contextmanager
def temporary() -> Iterator[RunFiles]:
    """The files of a run in a new folder, which is deleted at the end."""
    with temporary_folder("run") as folder:
        yield RunFiles(folder)
