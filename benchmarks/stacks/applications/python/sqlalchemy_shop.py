"""FastAPI over SQLAlchemy's asynchronous ORM and asyncpg."""

import os
from typing import Annotated

import asyncpg
from fastapi import Depends, FastAPI
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]


engine = create_async_engine(
    "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(os.environ["DATABASE_URL"]), pool_size=10
)
Session = async_sessionmaker(engine)
Autocommit = async_sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"))
app = FastAPI()


async def open_session():
    async with Session() as session:
        yield session


async def insert(session: AsyncSession) -> int:
    number = (await session.scalar(select(func.max(Order.number))) or 0) + 1
    session.add(Order(number=number))
    await session.commit()
    return number


@app.post("/orders")
async def create_order(session: Annotated[AsyncSession, Depends(open_session)]) -> int:
    return await insert(session)


@app.post("/orders/autocommit")
async def create_order_by_autocommit() -> int:
    async with Autocommit() as session:
        return await insert(session)


@app.post("/orders/locked")
async def create_order_locked(session: Annotated[AsyncSession, Depends(open_session)]) -> int:
    await session.execute(text("SELECT pg_advisory_xact_lock(42)"))
    return await insert(session)


@app.post("/orders/unique")
async def create_order_again_and_again(session: Annotated[AsyncSession, Depends(open_session)]) -> int:
    for _ in range(10):
        try:
            return await insert(session)
        except IntegrityError:
            await session.rollback()
    raise RuntimeError("still refused")
