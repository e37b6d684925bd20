"""How many jobs of a batch are where, what they took, and what that says of the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from nightmill.records.limits import NANO, Limits

State = Literal["paused", "paused: budget", "cancelled", "expired", "feeding", "running", "done"]

_NUMBERS: Final = (
    *("in_flight", "retrying", "snoozed", "succeeded", "failed", "cancelled", "expired"),
    *("input_tokens", "output_tokens", "nanodollars", "unpriced"),
    *("metered_ms", "used_ms"),
)
_HELD: Final[dict[str, State]] = {
    "paused": "paused",
    "budget": "paused: budget",
    "cancelled": "cancelled",
    "expired": "expired",
}
"""What a batch's flag says of its state."""
ENDED: Final = frozenset({"cancelled", "expired"})
"""Flags of a batch that takes no more jobs."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs of a batch are in each state, at one moment, and the tokens they took.

    `total` is None until the batch's source has ended. `feeding` tells whether a feeder is at
    work, `flag` is "paused", "budget", "cancelled" or "expired" when the batch is held or ended,
    `reason` why. `nanodollars` is what its calls cost, but for those of `unpriced` jobs. `webhook`
    is how far its Webhook is (JSON). `metered_ms` is how long lanes kept its jobs waiting,
    `used_ms` the same times the share of the limit used meanwhile.
    """

    total: int | None = None
    queued: int = 0
    in_flight: int = 0
    retrying: int = 0
    snoozed: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nanodollars: int = 0
    unpriced: int = 0
    metered_ms: int = 0
    used_ms: int = 0
    feeding: bool = False
    flag: str = ""
    reason: str = ""
    limits: Limits = Limits()
    webhook: str = ""

    @property
    def terminal(self) -> int:
        """Jobs that have their stored result."""
        return self.succeeded + self.failed + self.cancelled + self.expired

    @property
    def waiting(self) -> int:
        """Jobs in Redis that are not in flight."""
        return self.queued + self.retrying + self.snoozed

    @property
    def accepted(self) -> int:
        """Every job, wherever it stands."""
        return self.waiting + self.in_flight + self.terminal

    @property
    def drained(self) -> bool:
        """Whether no job is on its way; some may be missing all the same, or not be fed yet."""
        return not (self.waiting or self.in_flight)

    @property
    def done(self) -> bool:
        """Whether the source has ended and every job of it has its result."""
        return self.total is not None and self.terminal >= self.total and self.drained

    @property
    def ended(self) -> bool:
        """Whether nothing more of it will be called: it was cancelled, or its deadline passed."""
        return self.flag in ENDED

    @property
    def held(self) -> bool:
        """Whether it waits for somebody to resume it or to raise its budget."""
        return bool(self.flag) and not self.ended

    @property
    def utilisation(self) -> float | None:
        """Accepted / limit of its lanes while they kept jobs waiting; None where none is known."""
        return self.used_ms / self.metered_ms if self.metered_ms else None

    @property
    def cost(self) -> float | None:
        """US dollars spent so far, None when no price is known for some of its jobs."""
        return None if self.unpriced else self.nanodollars / NANO

    @property
    def projected_cost(self) -> float | None:
        """US dollars when all is done, if the rest costs what it cost so far; None if unknown."""
        ran = self.succeeded + self.failed
        if self.cost is None or self.total is None or not ran:
            return None
        left = 0 if self.ended else max(0, self.total - self.terminal)
        return self.cost * (1 + left / ran)

    @property
    def state(self) -> State:
        """The batch's state in a word or two."""
        if self.flag:
            return _HELD.get(self.flag, "paused")
        if self.feeding:
            return "feeding"
        ended = self.done or (self.total is None and self.drained)
        return "done" if ended else "running"


def read_counts(size: int, feeding: int, flat: Sequence[bytes]) -> Counts:
    """Read counts.lua's answer for one batch."""
    fields: Mapping[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
    numbers = {name: int(fields.get(name.encode(), 0)) for name in _NUMBERS}
    total = fields.get(b"total")
    under_way = numbers["in_flight"] + numbers["retrying"] + numbers["snoozed"]
    return Counts(
        **numbers,
        total=None if total is None else int(total),
        queued=size - under_way,
        feeding=bool(feeding),
        flag=fields.get(b"flag", b"").decode(),
        reason=fields.get(b"reason", b"").decode(),
        webhook=fields.get(b"webhook", b"").decode(),
        limits=msgspec.json.decode(fields.get(b"limits", b"{}"), type=Limits),
    )
