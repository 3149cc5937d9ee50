"""A service that runs the code of a session for each request, over one connection to DATABASE_URL's server.

The body names the shape in which statements are sent, the code, and a file that takes what the session was answered.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import zlib
from typing import Any

from benchmarks.fuzz.client import Client, Refusal, Shape
from benchmarks.fuzz.interpreter import run
from benchmarks.fuzz.program import Batch, Branch, Code, Many, Savepoint, Sql, Unit

_NAMES = {one.__name__: one for one in (Batch, Branch, Code, Many, Savepoint, Sql, Unit)}


def body(shape: Shape, place: int, code: Code, log: str) -> bytes:
    """The body of a request for a session with the code of this place."""
    return json.dumps({"shape": shape, "place": place, "code": repr(code), "log": log}).encode()


def main() -> None:
    """Answer requests, one at a time and a connection each: another would wait for one that is kept."""
    client: Client | None = None
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
        while True:
            connection = server.accept()[0]
            with connection, connection.makefile("rwb") as stream:
                if (asked := _request(stream)) is not None:
                    if client is None:
                        client = Client(os.environ, Shape(asked["shape"]))
                    status, answer = _answer(client, asked)
                    stream.write(f"HTTP/1.0 {status} -\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer)


def _request(stream: Any) -> dict[str, Any] | None:
    length = 0
    if not stream.readline():
        return None
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    asked: dict[str, Any] = json.loads(stream.read(length))
    return asked


def _answer(client: Client, asked: dict[str, Any]) -> tuple[int, bytes]:
    code = eval(asked["code"], _NAMES)  # this package wrote it
    log: list[Any] = []
    try:
        status, answer = 200, json.dumps(run(lambda action: client.perform(code, action), code, log))
    except Refusal as refusal:
        # Refusals that differ have different codes: those that sessions meet alone are told apart by them.
        status, answer = 400 + zlib.crc32(refusal.key.encode()) % 200, refusal.key
    with open(asked["log"], "a") as file:  # noqa: PTH123 - as quick as it can be
        file.write(repr((asked["place"], log)) + "\n")
    return status, answer.encode()


if __name__ == "__main__":
    main()
