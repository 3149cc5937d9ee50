"""Messages between a pool and its processes, as bytes: pickled, and by dill only what refers to what pickle cannot.

dill can send a function of a notebook's cell or of a program's main module, but takes a millisecond for a task; pickle
takes a twentieth of that.
"""

from __future__ import annotations

import io
import pickle
from types import FunctionType
from typing import Any


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Refuse what another process may not find by its name: its main module may be another one."""
        if isinstance(obj, type | FunctionType) and obj.__module__ == "__main__":
            raise pickle.PicklingError(f"{obj.__qualname__} is of the main module")
        return NotImplemented


def packed(message: object) -> bytes:
    """A message as bytes; raises what dill raises if it cannot be sent."""
    plain = io.BytesIO()
    try:
        _Pickler(plain, pickle.HIGHEST_PROTOCOL).dump(message)
    except (pickle.PicklingError, AttributeError, TypeError):
        import dill

        by_dill: bytes = dill.dumps(message)
        return b"d" + by_dill
    return b"p" + plain.getvalue()


def unpacked(data: bytes) -> Any:
    """The message in bytes that `packed` has made."""
    if data[:1] == b"d":
        import dill

        return dill.loads(data[1:])
    return pickle.loads(data[1:])
