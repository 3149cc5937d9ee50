"""The files of one run's folder: one for each session's operations, two for each consumer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The paths of a run's files, none of which this makes."""

    folder: Path

    def operations(self, session: int) -> Path:
        """The operations of a session, numbered from 1 over all workers."""
        return self.folder / f"worker-{session}"

    def deliveries(self, consumer: int) -> Path:
        """The rows delivered to a consumer, by its place in the run."""
        return self.folder / f"deliveries-{consumer}"

    def polls(self, consumer: int) -> Path:
        """The polls of a consumer, by its place in the run."""
        return self.folder / f"polls-{consumer}"
