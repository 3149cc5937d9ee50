"""A queue of jobs: of those with the same lock only one may run at a time.

As in procrastinate's first versions: two workers that fetched at the same moment got two jobs of one lock, because
SKIP LOCKED skips the job that is being taken, and its status is not committed yet. The fix is a unique index over the
locks of the jobs that run; the worker that it refuses fetches again, and gets a job of another lock.
"""

from __future__ import annotations

from psycopg.errors import UniqueViolation

from . import Connection, Program, value

SCHEMA = """
CREATE TABLE jobs (id int PRIMARY KEY, lock text NOT NULL, status text NOT NULL DEFAULT 'todo');
INSERT INTO jobs (id, lock) VALUES (1, 'customer 7'), (2, 'customer 7'), (3, 'customer 8');
"""
FETCH = """
UPDATE jobs SET status = 'doing' WHERE id = (
  SELECT id FROM jobs WHERE status = 'todo' AND lock NOT IN (SELECT lock FROM jobs WHERE status = 'doing')
  ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id
"""


def fetch_job(connection: Connection) -> int | None:
    with connection.transaction():
        job: int | None = value(connection, FETCH)
    return job


def fetch_job_again(connection: Connection) -> int | None:
    for _ in range(5):
        try:
            return fetch_job(connection)
        except UniqueViolation:
            continue
    raise RuntimeError("other workers took every job first")


PROGRAM = Program(
    schema=SCHEMA,
    fixed_schema="CREATE UNIQUE INDEX ON jobs (lock) WHERE status = 'doing';",
    buggy=(fetch_job,),
    fixed=(fetch_job_again,),
    invariant="SELECT lock FROM jobs WHERE status = 'doing' GROUP BY lock HAVING count(*) > 1",
)
