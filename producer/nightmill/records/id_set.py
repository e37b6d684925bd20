"""An identity of a set of job ids that can be built piece by piece, in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

_SIZE: Final = 8
"""Bytes of one id's hash, and of the sum: two different sets agree once in 2**64."""
_MASK: Final = (1 << 8 * _SIZE) - 1


class IdSet:
    """How many ids there are, and the sum of their hashes; the ids themselves are not kept.

    Each id is to be added once. Two sets are equal when they have the same ids.
    """

    __slots__ = ("_sum", "count")

    def __init__(self) -> None:
        """Start with no id."""
        self.count = 0
        self._sum = 0

    def add(self, ids: Iterable[str]) -> None:
        """Add ids that were not added before."""
        blake2b, from_bytes = hashlib.blake2b, int.from_bytes
        for each in ids:
            data = each.encode(errors="replace")
            self._sum += from_bytes(blake2b(data, digest_size=_SIZE).digest(), "big")
            self.count += 1
        self._sum &= _MASK

    def __str__(self) -> str:
        """Return the identity: the number of ids, a colon and the sum in 16 hex digits."""
        return f"{self.count}:{self._sum:016x}"

    def __repr__(self) -> str:
        """Show the identity."""
        return f"<IdSet {self}>"

    def __eq__(self, other: object) -> bool:
        """Tell whether `other` is a set of the same ids."""
        return isinstance(other, IdSet) and str(self) == str(other)

    __hash__ = None  # type: ignore[assignment] # it changes
