"""What one pass over a source has fed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nightmill.enqueue.prepare import Receipt, Taken


class Fed(msgspec.Struct, frozen=True, kw_only=True):
    """How many lines of one pass over a source were new, queued already or stored already.

    `changed` of them are stored, queued or in flight with another request. `cut_short`: the
    batch was cancelled or expired before the source ended, and the lines after that were not
    accepted.
    """

    new: int = 0
    queued_already: int = 0
    stored_already: int = 0
    changed: int = 0
    cut_short: bool = False

    @property
    def total(self) -> int:
        """The number of lines of the pass that were accepted."""
        return self.new + self.queued_already + self.stored_already


def count(receipts: Iterable[Receipt], taken: Taken) -> int:
    """Return how many jobs were `taken` so."""
    return sum(receipt.taken is taken for receipt in receipts)
