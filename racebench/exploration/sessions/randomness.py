"""The random numbers and the clocks that an application's code is given while its calls are explored.

A session has its own random numbers, and begins each schedule with the same ones: they depend on the number of the
draw and on the session, not on the schedule. Two sessions draw different numbers, as two processes do: with the same
numbers, keys made of them (uuid4) would collide, and a call that is right would look wrong. So sessions that draw are
not alike (symmetry.py). `time.monotonic` and `time.perf_counter` are the session's own too; sleeping moves them on. The
time of day is not replaced: rows hold it, and the server's clock must agree with it.

Replaced are attributes of modules, for the sessions' threads only. What is called past them is noted when the calls run
alone (introspection.py), and numbers of the generators that are known by their states.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from random import Random, SystemRandom
from types import FrameType
from typing import Any

from racebench.exploration.draws import Draws
from racebench.exploration.sessions import round_trips
from racebench.exploration.sessions.pauses import only_pauses
from racebench.workloads.callables import is_application, shown

#: The files whose functions draw for others.
_DRAWERS = frozenset({random.__file__, secrets.__file__, __file__})
_READS = frozenset({"now", "utcnow", "today", "time", "time_ns"})
_BUILT_IN_GENERATOR: Any = Random.__mro__[1]
#: The most generators besides the module's own that are seeded; an application that makes them in each call has more.
_MOST_GENERATORS = 8
_TICK_S = 1e-6


#: The states of generators: of the module random, of an application's from numpy, and numpy's own if it is used.
_States = tuple[list[Any], list[Any], list[Any]]


class Generators:
    """The generators of this process that sessions draw from: that of the module random, and an application's own.

    `used`: a session was seen to draw. Until then no session's numbers are put in, which takes 30 µs a step.
    """

    def __init__(self) -> None:
        self.used = False
        self._known: list[Any] = [random._inst]
        #: numpy's: whether its own generator is used, and the bit generators of an application's.
        self.numpy = False
        self._of_numpy: list[Any] = []

    def add(self, generator: Any) -> None:
        """Note a generator that the application has."""
        known = any(generator is other for other in self._known)
        if type(generator) is Random and not known and len(self._known) <= _MOST_GENERATORS:
            self._known.append(generator)

    def add_numpys(self, value: Any) -> None:
        """Note a generator of numpy's that the application has; or numpy's own, if that is a module or a function."""
        bits = getattr(value, "bit_generator", None)
        if bits is None:
            self.numpy = True
        elif len(self._of_numpy) < _MOST_GENERATORS and not any(bits is other for other in self._of_numpy):
            self._of_numpy.append(bits)

    def seed(self, numbers: Random) -> None:
        for generator in self._known:
            _BUILT_IN_GENERATOR.seed(generator, numbers.getrandbits(64))
            generator.gauss_next = None
        if self.numpy:
            sys.modules["numpy"].random.seed(numbers.getrandbits(32))
        for bits in self._of_numpy:
            bits.state = type(bits)(numbers.getrandbits(64)).state

    def state(self) -> _States:
        return (
            [(_BUILT_IN_GENERATOR.getstate(generator), generator.gauss_next) for generator in self._known],
            [bits.state for bits in self._of_numpy],
            [sys.modules["numpy"].random.get_state()] if self.numpy else [],
        )

    def restore(self, states: _States) -> None:
        """Go on with states; a generator that was not known then keeps its own."""
        known, of_numpy, own = states
        for generator, (state, gauss_next) in zip(self._known, known, strict=False):
            _BUILT_IN_GENERATOR.setstate(generator, state)
            generator.gauss_next = gauss_next
        for bits, numpys in zip(self._of_numpy, of_numpy, strict=False):
            bits.state = numpys
        for numpys in own:
            sys.modules["numpy"].random.set_state(numpys)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Give the generators their states back at the end."""
        before = self.state()
        try:
            yield
        finally:
            self.restore(before)


class Randomness:
    """The random numbers and the clock of one session's thread. `draws`: what it was seen to draw and read.

    `drawn`: equal for two calls that have drawn the same number of numbers, of the same draw.
    `fixed`: generators that a call has seeded with a number of its own, so that they draw the same in every process.
    """

    def __init__(self, number: int, generators: Generators) -> None:
        self.draws = Draws()
        self.generators = generators
        self.fixed: weakref.WeakSet[Random] = weakref.WeakSet()
        self._number = number
        self._numbers = Random()
        self._draw = 0
        self._seeded = False
        self._first: _States = ([], [], [])
        self._own: _States | None = None
        self._noticed = self._watched = False
        self.drawn = 0
        self._now = self._origin = time.monotonic() + number * _TICK_S

    def begin(self, draw: int) -> None:
        """A call begins, with the numbers of a draw."""
        self._draw, self._seeded, self._own = draw, False, None
        self._now, self._noticed = self._origin, False
        if self.generators.used:
            self._put_in()
        else:
            self._first = self.generators.state()

    def leave(self) -> None:
        """The thread stops, and another may draw."""
        if self.generators.used:
            self._own = self.generators.state()

    def resume(self) -> None:
        """The thread goes on with its own numbers."""
        if self._own is not None:
            self.generators.restore(self._own)
        elif self.generators.used:
            self._put_in()

    def end(self) -> None:
        """The call has ended."""
        generators = repr(self.generators.state()) if self.generators.used else ""
        self.drawn = hash((generators, self._numbers.getstate() if self._seeded else None))
        if self._noticed or self._watched or self.generators.state()[0][:1] == self._first[0][:1]:
            return
        self.generators.used = True
        others = {thread for thread in threading.enumerate() if not thread.name.startswith("racebench ")}
        if others <= {threading.main_thread()}:
            self.draws.choices.add("by a name imported from the module random")
        else:
            self.draws.names.add("by a name imported from the module random, or by another thread")

    def numbers(self) -> Random:
        """The session's numbers, from which all others are made."""
        if not self._seeded:
            self._seeded = True
            self._numbers.seed(f"{self._draw} {self._number}")
        return self._numbers

    def _put_in(self) -> None:
        """Have the generators draw the session's numbers, of which it has drawn none."""
        self.generators.seed(self.numbers())
        self._first = self.generators.state()

    def noticed(self, frame: FrameType | None, *, name: bool = False) -> None:
        """Note a draw of the code in a frame, or of its caller; `name`: it makes an identifier or a token."""
        self._noticed = True
        if not self.generators.used:
            self.generators.used = True
            self._put_in()
        while frame is not None and frame.f_code.co_filename in _DRAWERS:
            name |= frame.f_code.co_name.startswith("token_")
            frame = frame.f_back
        if frame is None:
            return
        path = frame.f_code.co_filename
        place = round_trips.line(frame) or f"{shown(path)}:{frame.f_lineno}"
        if name or path == uuid.__file__ or not is_application(path):
            self.draws.names.add(place)
        elif only_pauses(frame):
            self.draws.pauses.add(place)
        else:
            self.draws.choices.add(place)

    def noticed_clock(self, frame: FrameType) -> None:
        """Note that the code in a frame asks for the time of day, if it is the application's."""
        if is_application(frame.f_code.co_filename):
            self.draws.clocks.add(f"{shown(frame.f_code.co_filename)}:{frame.f_lineno}")

    def watch(self, frame: FrameType, function: Any) -> None:
        """Note what a built-in function, which a profile function was told of, draws or reads."""
        owner = getattr(function, "__self__", None)
        if issubclass(type(owner), _BUILT_IN_GENERATOR):
            if function.__name__ not in ("seed", "getstate", "setstate") and owner not in self.fixed:
                self.generators.add(owner)
                self._watched = True
                self.noticed(frame)
        elif function.__name__ == "generate_time_safe":  # uuid1
            self.noticed(frame, name=True)
        elif function.__name__ in _READS and (owner is time or issubclass(type(owner), type)):
            self.noticed_clock(frame)

    def noticed_numpy(self, value: Any, place: str) -> None:
        """Note that a function names a part of numpy's that draws; its numbers are the session's from then on."""
        self.draws.choices.add(place)
        self.generators.add_numpys(value)
        self.generators.used = True

    def sleep(self, seconds: float) -> None:
        """Move the clock on in place of a sleep."""
        self._now += max(0.0, seconds)

    def now(self) -> float:
        """The session's clock, in seconds; each reading is later than the one before."""
        self._now += _TICK_S
        return self._now


#: The randomness of the thread that asks; None if it runs no session.
Current = Callable[[], Randomness | None]
_Function = Callable[..., Any]


def replacements(current: Current) -> Iterator[tuple[Any, str, _Function]]:
    """What stands in place of the functions that draw or read a clock: owner, attribute, function."""
    for name in dir(random):
        function = getattr(random, name)
        if getattr(function, "__self__", None) is random._inst and name not in ("getstate", "setstate"):
            yield random, name, _drawing(function, current)
    yield Random, "seed", _seeding(Random.seed, current)
    yield os, "urandom", _bytes(os.urandom, current)
    for name in ("random", "getrandbits", "randbytes"):
        yield SystemRandom, name, _of_the_system(getattr(SystemRandom, name), current)
    for name in ("time", "time_ns"):
        yield time, name, _reading(getattr(time, name), current)
    for name in ("monotonic", "perf_counter"):
        yield time, name, _own_clock(getattr(time, name), current, lambda seconds: seconds)
        yield time, f"{name}_ns", _own_clock(getattr(time, f"{name}_ns"), current, lambda seconds: int(seconds * 1e9))
    if (numpys := sys.modules.get("numpy.random")) is not None:
        yield numpys, "default_rng", _generator(numpys.default_rng, current)


def _generator(original: _Function, current: Current) -> _Function:
    def made(seed: Any = None) -> Any:
        own = current() if seed is None else None
        if own is None:
            return original(seed)
        own.noticed(sys._getframe(1))
        return original(own.numbers().getrandbits(64))

    return made


def _drawing(original: _Function, current: Current) -> _Function:
    def drawn(*args: Any, **kwargs: Any) -> Any:
        own = current()
        if own is not None and original.__name__ != "seed":
            own.noticed(sys._getframe(1))
        elif own is not None and not args and not kwargs:
            args = (own.numbers().getrandbits(64),)
        return original(*args, **kwargs)

    return drawn


def _seeding(original: _Function, current: Current) -> _Function:
    def seeded(generator: Random, a: Any = None, version: int = 2) -> None:
        own = current()
        if own is not None and a is None:
            own.noticed(sys._getframe(1))
            a = own.numbers().getrandbits(64)
        elif own is not None:
            own.fixed.add(generator)
        original(generator, a, version)

    return seeded


def _bytes(original: _Function, current: Current) -> _Function:
    def drawn(size: int) -> Any:
        own = current()
        if own is None:
            return original(size)
        own.noticed(sys._getframe(1), name=True)
        return own.numbers().randbytes(size)

    return drawn


def _of_the_system(original: _Function, current: Current) -> _Function:
    def drawn(generator: SystemRandom, *args: int) -> Any:
        own = current()
        if own is None:
            return original(generator, *args)
        own.noticed(sys._getframe(1))
        return getattr(own.numbers(), original.__name__)(*args)

    return drawn


def _reading(original: _Function, current: Current) -> _Function:
    def read() -> Any:
        own = current()
        if own is not None:
            own.noticed_clock(sys._getframe(1))
        return original()

    return read


def _own_clock(original: _Function, current: Current, unit: Callable[[float], Any]) -> _Function:
    def read() -> Any:
        own = current()
        return original() if own is None else unit(own.now())

    return read
