"""Small programs of kinds that applications have, each with its race and without: what test_programs.py explores.

A module is one kind. It has PROGRAM: the tables, the calls that race each other, wrong and right. The invariants are
a cross-check of the tests; the explorer must find its verdicts without them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]
AsyncConnection = psycopg.AsyncConnection[Any]
Subject = Callable[..., Any] | Path

NAMES = (
    "booking_overlap",
    "counter_with_f",
    "coupon_stock",
    "follower_count",
    "get_or_create",
    "invoice_number",
    "job_locks",
    "lock_in_a_pooler",
    "lock_never_taken",
    "lock_on_missing_rows",
    "lock_on_the_wrong_key",
    "outbox",
    "retry_without_rollback",
    "seats",
    "status_machine",
    "unique_and_retry",
    "upsert",
    "version_column",
    "voucher",
    "wallet",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One kind of program. Sessions take turns with the calls of `buggy`, or of `fixed`; there are at least two.

    `schema` is SQL; `fixed_schema` is what the fix adds to it. `invariant` is SQL that returns the rows that break what
    the program promises, if the tables show it.
    """

    schema: str
    fixed_schema: str = ""
    buggy: tuple[Subject, ...]
    fixed: tuple[Subject, ...]
    invariant: str = ""


def load(name: str) -> Program:
    """The program of one module; raises ImportError where what it is written with is not installed."""
    program = importlib.import_module(f"{__name__}.{name}").PROGRAM
    assert isinstance(program, Program)
    return program


def value(connection: Connection, query: str, *parameters: object) -> Any:
    """The first column of a query's first row, or None."""
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None
