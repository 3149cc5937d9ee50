"""Whether an application's code asks which thread or which connection it runs on: that tells sessions apart.

A profile function sees the code that runs when the calls run alone; the functions and classes that this code names are
looked at too. Not seen: what only a library does with it, names made at run time, and code that is reached in a race
only and that no global name leads to. SQL is symmetry.py's.
"""

from __future__ import annotations

import contextvars
import functools
import sys
import threading
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

from racebench.exploration.sessions.randomness import Randomness
from racebench.workloads.callables import is_application, shown

#: Attributes and functions whose value depends on the thread or the connection. All sessions are in one process.
_ASKING = frozenset(
    {"backend_pid", "get_ident", "get_native_id", "current_thread", "currentThread", "ident", "native_id"}
    | {"fileno", "socket", "threadName"}
)
#: Built-in functions, which may have another name in the code that calls them.
_BUILT_IN = frozenset({"get_ident", "get_native_id", "id", "fileno"})
_OF_A_THREAD = (threading.local, contextvars.ContextVar)


class Introspection:
    """A profile function (sys.setprofile). `asked`: the application's code may ask which session it is."""

    def __init__(self, randomness: Randomness) -> None:
        self.asked = False
        self._randomness = randomness
        self._seen: set[CodeType] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            name = getattr(argument, "__name__", "")
            self.asked |= name in _BUILT_IN and is_application(frame.f_code.co_filename)
            self._randomness.watch(frame, argument)
        elif event == "call":
            code, caller = frame.f_code, frame.f_back
            self.asked |= code.co_name in _ASKING and caller is not None and is_application(caller.f_code.co_filename)
            self._read(code, frame.f_globals)

    def _read(self, code: CodeType, names: Mapping[str, Any]) -> None:
        """Look at a function's code, and at what it names, to any depth."""
        left = [(code, names)]
        while left:
            code, names = left.pop()
            if code in self._seen:
                continue
            self._seen.add(code)
            if not is_application(code.co_filename):
                continue
            strings = {constant for constant in code.co_consts if isinstance(constant, str)}
            self.asked |= bool(_ASKING & {*code.co_names, *strings})
            left += [(constant, names) for constant in code.co_consts if isinstance(constant, CodeType)]
            for member in _named(code, names):
                self.asked |= issubclass(type(member), _OF_A_THREAD)
                if _is_numpys(member, code):
                    self._randomness.noticed_numpy(member, f"{shown(code.co_filename)}:{code.co_firstlineno}")
                left += [(function.__code__, function.__globals__) for function in _functions(member)]


# Only types are looked at, and what is in a __dict__: an attribute, or isinstance, may run the application's code.


def _named(code: CodeType, names: Mapping[str, Any]) -> Iterator[Any]:
    """The values of the global names in a function's code; of an application's module, those named there."""
    for value in [names[name] for name in code.co_names if name in names]:
        if not issubclass(type(value), ModuleType) or str(vars(value).get("__name__")).startswith("numpy"):
            yield value
        elif is_application(vars(value).get("__file__") or "<"):
            yield from [vars(value)[name] for name in code.co_names if name in vars(value)]


def _is_numpys(value: Any, code: CodeType) -> bool:
    """Whether a function uses numpy's random numbers: by its module, a function of it, or a generator."""
    if issubclass(type(value), ModuleType):
        name = vars(value).get("__name__")
        return name == "numpy.random" or (name == "numpy" and "random" in code.co_names)
    owner = value if type(value) is BuiltinFunctionType else type(value)
    return str(getattr(owner, "__module__", "")).startswith("numpy.random")


def _functions(value: Any) -> Iterator[FunctionType]:
    """A function itself and what it wraps, or the methods of a class, or of an instance's class, of the application."""
    kind = type(value)
    if kind in (FunctionType, functools._lru_cache_wrapper):
        if kind is FunctionType:
            yield value
        if "__wrapped__" in vars(value):
            yield from _functions(vars(value)["__wrapped__"])
        return
    if kind in (classmethod, staticmethod, MethodType):
        yield from _functions(value.__func__)
        return
    for part in (value if issubclass(kind, type) else kind).__mro__:
        module = sys.modules.get(part.__module__)
        if module is None or not is_application(vars(module).get("__file__") or "<"):
            continue
        for member in vars(part).values():
            if type(member) is property:
                yield from (getter for getter in (member.fget, member.fset) if isinstance(getter, FunctionType))
            elif type(member) in (FunctionType, classmethod, staticmethod, functools._lru_cache_wrapper):
                yield from _functions(member)
