"""Replaces functions of libraries for the length of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Patch:
    """A function of a library, by its owner and its name there, and what stands in its place."""

    owner: Any
    name: str
    replacement: Function

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the replacement in the place of the function."""
        original = getattr(self.owner, self.name)
        setattr(self.owner, self.name, self.replacement)
        try:
            yield
        finally:
            setattr(self.owner, self.name, original)


@contextmanager
def all_applied(patches: Iterable[Patch]) -> Iterator[None]:
    """Apply several patches."""
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch.applied())
        yield
