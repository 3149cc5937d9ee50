"""A document has a version, and an edit of an older version may not be saved over a newer one: over SQLAlchemy's ORM.

As in TypeORM, whose UPDATE did not compare the version: two sessions read version 1, both save version 2, and one
edit is lost. The fix is SQLAlchemy's `version_id_col`, which puts the version into the WHERE of the UPDATE and counts
the rows; the session that met none begins again.
"""

from __future__ import annotations

import functools
import os

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Mapped, Session, mapped_column, registry
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.pool import NullPool

from . import Program

SCHEMA = """
CREATE TABLE documents (id int PRIMARY KEY, version int NOT NULL, body text NOT NULL);
INSERT INTO documents VALUES (1, 1, '');
"""


@registry().mapped
class Document:
    """A document whose version the application counts by itself."""

    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    body: Mapped[str]


@registry().mapped
class VersionedDocument:
    """A document whose version SQLAlchemy counts and compares."""

    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column()
    body: Mapped[str]
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy documents it


@functools.cache
def _engine(url: str) -> Engine:
    """No pool, and no question about hstore at each connection."""
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    return create_engine(url, poolclass=NullPool, use_native_hstore=False)


def edit() -> int:
    with Session(_engine(os.environ["DATABASE_URL"])) as session:
        document = session.get_one(Document, 1)
        document.body += "+"
        document.version += 1
        version = document.version
        session.commit()
    return version


def edit_versioned() -> int:
    for _ in range(5):
        with Session(_engine(os.environ["DATABASE_URL"])) as session:
            document = session.get_one(VersionedDocument, 1)
            document.body += "+"
            try:
                session.flush()
            except StaleDataError:
                continue
            version = document.version
            session.commit()
        return version
    raise RuntimeError("every version was out of date")


PROGRAM = Program(
    schema=SCHEMA,
    buggy=(edit,),
    fixed=(edit_versioned,),
    invariant="SELECT version, body FROM documents WHERE version <> 3 OR body <> '++'",
)
