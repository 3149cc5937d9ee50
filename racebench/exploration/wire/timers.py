"""In which wait a thread of another process sleeps, and with which time-out: it goes on by itself then. Linux only.

The kernel shows the system call that a sleeping thread is in, and its arguments (proc(5): syscall). Some point to the
time in the memory of the process.
"""

from __future__ import annotations

import os
import platform
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

_NS, _US, _MS = 1_000_000_000, 1_000_000, 1_000
_TIME = struct.Struct("=qq")
#: Of futex(2): the command without its flags, and the flag that says which clock an absolute time is of.
_FUTEX_COMMAND, _FUTEX_REALTIME = 0x7F, 0x100
_FUTEX_WAIT, _FUTEX_LOCK_PI = 0, 6
#: The commands that wait: these two, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2. All but the first are told until when.
_FUTEX_WAITS = frozenset({_FUTEX_WAIT, _FUTEX_LOCK_PI, 9, 11, 13})
_TIMER_ABSTIME = 1


class _Unit(Enum):
    """How a system call is told its time-out: milliseconds, negative for none; or where a time is, 0 for none."""

    MILLISECONDS = auto()
    SECONDS_AND_NANOSECONDS = auto()
    SECONDS_AND_MICROSECONDS = auto()


@dataclass(frozen=True, slots=True)
class _Timeout:
    """Which argument is the time-out, counted from 0. `clock`: that of which it is a time; None if it is a duration."""

    argument: int
    unit: _Unit
    clock: Callable[[list[int]], int | None] = lambda arguments: None  # noqa: ARG005


def _futex_clock(arguments: list[int]) -> int | None:
    operation = arguments[1]
    if operation & _FUTEX_COMMAND == _FUTEX_WAIT:
        return None
    realtime = operation & _FUTEX_REALTIME or operation & _FUTEX_COMMAND == _FUTEX_LOCK_PI
    return time.CLOCK_REALTIME if realtime else time.CLOCK_MONOTONIC


def _sleep_clock(arguments: list[int]) -> int | None:
    return arguments[0] if arguments[1] & _TIMER_ABSTIME else None


_EPOLL, _POLL = _Timeout(3, _Unit.MILLISECONDS), _Timeout(2, _Unit.MILLISECONDS)
_EPOLL_2, _PPOLL = (_Timeout(argument, _Unit.SECONDS_AND_NANOSECONDS) for argument in (3, 2))
_SELECT, _PSELECT = _Timeout(4, _Unit.SECONDS_AND_MICROSECONDS), _Timeout(4, _Unit.SECONDS_AND_NANOSECONDS)
_FUTEX = _Timeout(3, _Unit.SECONDS_AND_NANOSECONDS, _futex_clock)
_FUTEX_WAITV = _Timeout(3, _Unit.SECONDS_AND_NANOSECONDS, lambda arguments: arguments[4])
_NANOSLEEP = _Timeout(0, _Unit.SECONDS_AND_NANOSECONDS)
_CLOCK_NANOSLEEP = _Timeout(2, _Unit.SECONDS_AND_NANOSECONDS, _sleep_clock)
_SIGTIMEDWAIT = _Timeout(2, _Unit.SECONDS_AND_NANOSECONDS)

#: The system calls by their numbers (asm/unistd_64.h, asm-generic/unistd.h).
_CALLS = {
    "x86_64": {
        7: _POLL,
        23: _SELECT,
        35: _NANOSLEEP,
        128: _SIGTIMEDWAIT,
        202: _FUTEX,
        230: _CLOCK_NANOSLEEP,
        232: _EPOLL,
        270: _PSELECT,
        271: _PPOLL,
        281: _EPOLL,
        441: _EPOLL_2,
        449: _FUTEX_WAITV,
    },
    "aarch64": {
        22: _EPOLL,
        72: _PSELECT,
        73: _PPOLL,
        98: _FUTEX,
        101: _NANOSLEEP,
        115: _CLOCK_NANOSLEEP,
        137: _SIGTIMEDWAIT,
        441: _EPOLL_2,
        449: _FUTEX_WAITV,
    },
}.get(platform.machine(), {})


#: They wait for many things at once, as the loop of an asynchronous application does: all its waits look alike.
_LOOPS = (_EPOLL, _EPOLL_2, _POLL, _PPOLL, _SELECT, _PSELECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A thread's sleep with a time-out, in seconds, and at which place of the program.

    `place`: the system call, the stack pointer and the instruction; None for an event loop's, which has all its waits
    at one place.
    """

    timeout_s: float
    place: tuple[bytes, ...] | None


def known() -> bool:
    """Whether the system calls of this machine are known."""
    return bool(_CALLS)


def wait_of(process: int, tid: int) -> Wait | None:
    """In which wait a thread sleeps; None if that has no time-out, or the thread runs.

    A duration is given whole, also when a part of it has passed. Raises OSError if the thread has ended, and
    PermissionError if the kernel does not show it to this user.
    """
    with open(f"/proc/{process}/task/{tid}/syscall", "rb") as file:  # noqa: PTH123 - by far the fastest
        words = file.read().split()
    if not words[0].isdigit():
        return None  # "running", or -1: blocked, but in no system call
    call = _CALLS.get(int(words[0]))
    if call is None:
        return None
    arguments = [int(word, 16) for word in words[1:7]]
    if call is _FUTEX and arguments[1] & _FUTEX_COMMAND not in _FUTEX_WAITS:
        return None
    timeout_s = _timeout_s(process, call, arguments)
    if timeout_s is None:
        return None
    return Wait(timeout_s=timeout_s, place=None if call in _LOOPS else (words[0], *words[7:9]))


def _timeout_s(process: int, call: _Timeout, arguments: list[int]) -> float | None:
    value = arguments[call.argument]
    if call.unit is _Unit.MILLISECONDS:
        milliseconds = value & 0xFFFF_FFFF  # an int
        return None if milliseconds & 0x8000_0000 else milliseconds / _MS
    if not value:
        return None
    whole, part = _time_at(process, value)
    seconds = whole + part / (_NS if call.unit is _Unit.SECONDS_AND_NANOSECONDS else _US)
    clock = call.clock(arguments)
    return max(0.0, seconds if clock is None else seconds - time.clock_gettime(clock))


def _time_at(process: int, address: int) -> tuple[int, int]:
    """The two numbers at an address of a process: struct timespec, or struct timeval.

    Raises OSError if it has ended, or has become another program meanwhile.
    """
    memory = os.open(f"/proc/{process}/mem", os.O_RDONLY)
    try:
        read = os.pread(memory, _TIME.size, address)
    finally:
        os.close(memory)
    if len(read) < _TIME.size:  # none of a process that has ended since it was opened
        raise ProcessLookupError(f"process {process} has no memory any more")
    seconds, part = _TIME.unpack(read)
    return seconds, part
