"""Which rows have been delivered to a consumer: a bit for each id where ids are dense, a set where they are few.

Memory: an eighth of a byte a row for ids from a sequence; as much as a set for ids that are far apart.
"""

from __future__ import annotations

_PAGE_BITS = 16
_PAGE = 1 << _PAGE_BITS
_MANY = _PAGE // 64  # ids of a page from which on bits take less room than a set


class Seen:
    """A set of ids that only grows; its length is their number."""

    def __init__(self) -> None:
        self._pages: dict[int, set[int] | bytearray] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, identity: int) -> bool:
        """Add an id; return whether it is new."""
        number, at = identity >> _PAGE_BITS, identity & (_PAGE - 1)
        page = self._pages.get(number)
        if page is None:
            self._pages[number] = {at}
        elif isinstance(page, bytearray):
            bit = 1 << (at & 7)
            if page[at >> 3] & bit:
                return False
            page[at >> 3] |= bit
        else:
            if at in page:
                return False
            page.add(at)
            if len(page) >= _MANY:
                self._pages[number] = _as_bits(page)
        self._count += 1
        return True


def _as_bits(page: set[int]) -> bytearray:
    bits = bytearray(_PAGE // 8)
    for at in page:
        bits[at >> 3] |= 1 << (at & 7)
    return bits
