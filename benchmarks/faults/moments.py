"""At which message a proxy breaks a connection: the n-th COMMIT, before, inside or after it; the n-th of all.

Each function makes a `proxy.Cut`, which belongs to one proxy: it counts the messages of all its connections.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator

from benchmarks.faults.proxy import Break, Cut, after_an_error

_COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"


def once(condition: Cut) -> Cut:
    """Break the first time that a condition says how."""
    done: list[bool] = []

    def cut(data: bytes, of_client: bool) -> Break:
        if done or (happens := condition(data, of_client)) is None:
            return None
        done.append(True)
        return happens

    return cut


def at_message(number: int, happens: Break) -> Cut:
    """The n-th piece of bytes in either direction."""
    messages = itertools.count(1)
    return once(lambda _data, _of_client: happens if next(messages) == number else None)


def _client_messages(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """The messages that a client sent at once: kind, where it begins, body. A start-up packet has none."""
    at = 0
    while at + 5 <= len(data) and data[at : at + 1] in b"BCDEFHPQSXpd":
        kind, length = struct.unpack_from("!cI", data, at)
        yield kind, at, data[at + 5 : at + 1 + length]
        at += 1 + length


def _is_commit(text: bytes) -> bool:
    return text.strip().upper().startswith(b"COMMIT")


class Commits:
    """Finds the COMMITs that clients send, as text or as a statement that was prepared from it."""

    def __init__(self) -> None:
        self._names: set[bytes] = set()

    def where(self, data: bytes) -> int | None:
        """Where the first COMMIT in it begins; None if there is none."""
        for kind, at, body in _client_messages(data):
            first, _, rest = body.partition(b"\x00")
            second = rest.partition(b"\x00")[0]
            if kind == b"P":
                (self._names.add if _is_commit(second) else self._names.discard)(first)
            elif (kind == b"B" and second in self._names) or (kind == b"Q" and _is_commit(first)):
                return at
        return None


def before_commit(number: int) -> Cut:
    """The n-th COMMIT is sent and does not arrive, and what was sent before it does."""
    return _at_commit(number, lambda at: at)


def inside_commit(number: int) -> Cut:
    """Three bytes of the n-th COMMIT arrive."""
    return _at_commit(number, lambda at: at + 3)


def _at_commit(number: int, passed: Callable[[int], int]) -> Cut:
    commits, counted = Commits(), itertools.count(1)

    def condition(data: bytes, of_client: bool) -> Break:
        if not of_client or (at := commits.where(data)) is None:
            return None
        return passed(at) if next(counted) == number else None

    return once(condition)


def after_commit(number: int, happens: Break = 0) -> Cut:
    """The n-th COMMIT is carried out, and its answer does not arrive."""
    counted = itertools.count(1)
    return once(
        lambda data, of_client: happens if not of_client and _COMMITTED in data and next(counted) == number else None
    )


def behind_refusal(number: int) -> Cut:
    """The n-th error of the server arrives, and nothing after it."""
    counted = itertools.count(1)

    def condition(data: bytes, of_client: bool) -> Break:
        if of_client or (end := after_an_error(data)) is None:
            return None
        return end if next(counted) == number else None

    return once(condition)
