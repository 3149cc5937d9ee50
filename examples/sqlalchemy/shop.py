"""Orders that are numbered 1, 2, 3 …, over SQLAlchemy 2's ORM."""

import os

from sqlalchemy import create_engine, func, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

# SQLAlchemy needs the driver in the URL: psycopg 3.
engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1))


class Base(DeclarativeBase):
    """The shop's tables."""


class Order(Base):
    """An order."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


def create_order():
    """Wrong: two requests can read the same maximum."""
    with Session(engine) as session, session.begin():
        _add(session)


def create_order_fixed():
    """Right: the second session waits until the first has committed."""
    with Session(engine) as session, session.begin():
        session.execute(text("SELECT pg_advisory_xact_lock(42)"))
        _add(session)


def _add(session):
    last = session.scalar(select(func.max(Order.number))) or 0
    session.add(Order(number=last + 1))
