"""A visit is counted: an UPDATE, then an INSERT that does nothing where there is a row.

As in the upserts of ownCloud and Prisma: two sessions update no row, one inserts it, and the visit of the other is
lost (without ON CONFLICT it is refused). The fix is ON CONFLICT DO UPDATE. The subjects are files of SQL.
"""

from __future__ import annotations

from pathlib import Path

from . import Program

FOLDER = Path(__file__).parent

PROGRAM = Program(
    schema="CREATE TABLE visits (page text PRIMARY KEY, number int NOT NULL);",
    buggy=(FOLDER / "upsert_buggy.sql",),
    fixed=(FOLDER / "upsert_fixed.sql",),
    invariant="SELECT page, number FROM visits WHERE number <> 2",
)
