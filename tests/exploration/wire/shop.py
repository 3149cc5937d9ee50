"""A service that numbers orders, for tests: Python's http.server over psycopg, with a pool of its own.

The path says how: /orders, with ?how=… for each way. POOL: the number of its connections. Without a port, it is a
program that makes one order and prints its number.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg

MUTEX = threading.Lock()
POOL: queue.Queue[psycopg.Connection] = queue.Queue()
MADE = {"orders": 0}


def connect() -> psycopg.Connection:
    return psycopg.connect(os.environ["DATABASE_URL"])


def number(connection: psycopg.Connection, how: str) -> int:
    if "lock" in how:
        connection.execute("SELECT pg_advisory_xact_lock(1)")
    (version,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM orders").fetchone()
    connection.execute("INSERT INTO orders (number) VALUES (%s)", (version,))
    return version


def make(how: str) -> int:
    if "fresh" in how:
        with connect() as own:
            return number(own, how)
    connection = POOL.get()
    try:
        connection.autocommit = "auto" in how
        made = number(connection, how)
        if not connection.autocommit and "open" not in how:
            connection.commit()
        return made
    except psycopg.OperationalError:
        if "fatal" in how:
            os._exit(3)
        if "again" not in how:
            raise
        connection = connect()
    except psycopg.errors.UniqueViolation:
        connection.rollback()
        if "retry" not in how:
            raise
    finally:
        POOL.put(connection)
    time.sleep(0.03)
    return make(how)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
        self.wfile.flush()

    def do_GET(self) -> None:
        self.answer(200, MADE)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, how = self.path.partition("?how=")
        if path == "/reset":
            MADE["orders"] = 0
            self.answer(200, {})
            return
        MADE["orders"] += 1
        if how == "first" and MADE["orders"] > 1:
            self.answer(409, {"error": "one order only"})
            return
        if how == "none":
            self.answer(200, {})
            return
        if how == "dies":
            os._exit(3)
        if how == "after":
            self.answer(202, {})
            make(how)
            return
        try:
            if "mutex" in how:
                with MUTEX:
                    made = make(how)
            else:
                made = make(how)
        except psycopg.Error as problem:
            self.answer(500, {"error": type(problem).__name__})
            return
        self.answer(201, {"number": made})


def poll() -> None:
    connection = connect()
    while True:
        if os.environ.get("POLLS_ANEW"):  # so that each poll prepares its statement
            connection.close()
            connection = connect()
        connection.execute(os.environ["POLLS"], prepare=bool(os.environ.get("POLLS_ANEW")) or None)
        connection.commit()
        time.sleep(0.05)


def main() -> None:
    for _ in range(int(os.environ.get("POOL", "2"))):
        POOL.put(connect())
    if len(sys.argv) < 2 or not sys.argv[1].isdigit():
        sys.stdout.write(f"{make(sys.argv[1] if len(sys.argv) > 1 else '')}\n")
        return
    if os.environ.get("WARMS_UP"):
        with connect() as connection:
            connection.execute(os.environ["WARMS_UP"])
    if os.environ.get("POLLS"):
        threading.Thread(target=poll, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
