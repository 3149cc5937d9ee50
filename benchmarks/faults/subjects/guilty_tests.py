"""The tests of a user whose function is guilty, for pytest."""

from __future__ import annotations

from pathlib import Path

from orders import DUPLICATES, guilty

import racebench as racebench_library

SCHEMA = (Path(__file__).parent / "scenario" / "schema.sql").read_text()


def test_explored(racebench: racebench_library.Fixture) -> None:
    racebench.explore(guilty, sessions=2, setup=SCHEMA, invariant=DUPLICATES)


def test_hammered(racebench: racebench_library.Fixture) -> None:
    racebench.hammer(guilty, workers=2, seconds=0.4, setup=SCHEMA, invariant=DUPLICATES)
