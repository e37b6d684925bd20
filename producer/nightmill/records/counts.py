"""The counts of one batch: its jobs by state, tokens, cost; and the batch's own state."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from nightmill.errors import InvalidLimitError
from nightmill.records import waste
from nightmill.records.limits import NANO, Limits
from nightmill.records.state import TERMINAL, JobState
from nightmill.records.stop_reasons import FIELD

State = Literal["paused", "paused: budget", "cancelled", "expired", "feeding", "running", "done"]

_NUMBERS: Final = (
    *("in_flight", "retrying", "snoozed", "succeeded", "failed", "cancelled", "expired"),
    *("input_tokens", "output_tokens", "nanodollars", "unpriced", "answers"),
    *("refused", "metered_ms", "used_ms"),
)
_HELD: Final[dict[str, State]] = {
    "paused": "paused",
    "budget": "paused: budget",
    "cancelled": "cancelled",
    "expired": "expired",
}
"""The flag in a batch's hash -> the state that a person reads."""
LARGEST: Final = 1 << 53
"""Largest count: Lua's numbers are exact up to here."""
_INTEGER: Final = re.compile(rb"-?\d{1,19}")
ENDED: Final = frozenset({"cancelled", "expired"})
"""Flags of a batch that takes no more jobs."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of a batch by state, and the tokens they used, at one moment."""

    total: int | None = None
    """Jobs in all; None until the batch's source has ended."""
    queued: int = 0
    in_flight: int = 0
    retrying: int = 0
    snoozed: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    stop_reasons: dict[str, int] = {}
    """Stop reason -> succeeded rows whose message has it, unknown ones too; "none": it has none."""
    input_tokens: int = 0
    """Of all calls with a known usage; tokens written to the prompt cache are included."""
    output_tokens: int = 0
    nanodollars: int = 0
    """Cost of all calls with a known price; 1e9 are one US dollar."""
    wasted: dict[str, int] = {}
    """Kind -> nano-dollars of it that bought no result, as far as Redis counted it. See waste."""
    unpriced: int = 0
    """Jobs that used tokens of a model without a known price."""
    refused: int = 0
    """Calls that were answered 429."""
    answers: int = 0
    """Messages that were paid for, also those of replaced runs."""
    metered_ms: int = 0
    """How long lanes kept jobs of this batch waiting, milliseconds."""
    used_ms: int = 0
    """`metered_ms`, each millisecond times the share (0 to 1) of the lane's limit used in it."""
    feeding: bool = False
    """Whether a feeder holds the batch now."""
    fed: bool = False
    """Whether a feeder has held it: then it is not done before its source was read to the end."""
    created_at: int | None = None
    """When a feeder held it first, epoch ms; None when Redis does not know."""
    flag: str = ""
    """`paused`, `budget`, `cancelled` or `expired`; "" while jobs may be claimed."""
    reason: str = ""
    """Why `flag` is set, as text for a person."""
    limits: Limits = Limits()
    accept: str = ""
    """The batch's Acceptance as JSON; "" for the default one."""
    webhook: str = ""
    """The batch's Webhook as JSON; "" for none."""

    @property
    def terminal(self) -> int:
        """Jobs that have ended: each has a row in the results store."""
        return self.succeeded + self.failed + self.cancelled + self.expired

    @property
    def waiting(self) -> int:
        """Jobs in Redis that are not in flight."""
        return self.queued + self.retrying + self.snoozed

    @property
    def accepted(self) -> int:
        """All jobs that were enqueued, in any state."""
        return self.waiting + self.in_flight + self.terminal

    @property
    def drained(self) -> bool:
        """Whether no job is in Redis. Jobs may still be lost, or not fed yet."""
        return not (self.waiting or self.in_flight)

    @property
    def done(self) -> bool:
        """Whether the source has ended and every job of it has ended."""
        return self.total is not None and self.terminal >= self.total and self.drained

    @property
    def over(self) -> bool:
        """Whether every job that was enqueued has ended, and no feeder will enqueue more.

        Jobs that other producers enqueue have no total: then none may be in Redis.
        """
        return self.done or (self.total is None and not self.fed and self.drained)

    @property
    def gap(self) -> str:
        """What is missing of it while no job is in Redis, "" when nothing is known to be."""
        if not self.drained or self.feeding:
            return ""
        if self.lost:
            return f"has {self.lost:,} jobs neither queued nor stored: feed its source again"
        if self.total is None and self.fed and not self.ended:
            return "was not fed to the end of its source: feed it again"
        return ""

    @property
    def lost(self) -> int:
        """Jobs that have neither ended nor are in Redis, when the total is known."""
        return 0 if self.total is None else max(0, self.total - self.accepted)

    @property
    def ended(self) -> bool:
        """Whether no more calls are made: the batch was cancelled, or its deadline has passed."""
        return self.flag in ENDED

    @property
    def held(self) -> bool:
        """Whether a person must resume the batch or raise its budget."""
        return bool(self.flag) and not self.ended

    @property
    def utilisation(self) -> float | None:
        """Share of its lanes' limits that was used while jobs waited; None if unmeasured."""
        return self.used_ms / self.metered_ms if self.metered_ms else None

    @property
    def cost(self) -> float | None:
        """US dollars of all calls so far, replaced runs too; None when a job has no known price."""
        return None if self.unpriced else self.nanodollars / NANO

    @property
    def projected_cost(self) -> float | None:
        """US dollars at the end, at the mean cost of the jobs that ran so far; None if unknown."""
        ran = max(self.succeeded + self.failed, self.answers)
        if self.cost is None or self.total is None or not ran:
            return None
        left = 0 if self.ended else max(0, self.total - self.terminal)
        return self.cost * (1 + left / ran)

    @property
    def state(self) -> State:
        """The batch's state as commands print it."""
        if self.flag:
            return _HELD.get(self.flag, "paused")
        if self.feeding:
            return "feeding"
        return "done" if self.over else "running"


def read_counts(size: int, feeding: int, flat: Sequence[bytes]) -> Counts:
    """Return the counts in counts.lua's answer for one batch; `flat` is its hash.

    A value that cannot be read counts as missing: other programs may write to the hash. `size` is
    how many jobs are there: when Redis lost the hash or the queues, the states add up to it all the
    same.
    """
    fields: Mapping[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
    numbers = {name: _number(fields.get(name.encode(), b"")) or 0 for name in _NUMBERS}
    left = size
    for name in ("in_flight", "retrying", "snoozed"):
        numbers[name] = min(max(numbers[name], 0), left)
        left -= numbers[name]
    return Counts(
        **numbers,
        stop_reasons=_named(fields, FIELD),
        wasted=_named(fields, waste.FIELD),
        total=_number(fields.get(b"total", b"")),
        queued=left,
        feeding=bool(feeding),
        fed=b"created_at" in fields,
        created_at=_number(fields.get(b"created_at", b"")),
        flag=text(fields.get(b"flag", b"")),
        reason=text(fields.get(b"reason", b"")),
        webhook=text(fields.get(b"webhook", b"")),
        accept=text(fields.get(b"accept", b"")),
        limits=_limits(fields.get(b"limits", b"{}")),
    )


def with_rows(
    counts: Counts, rows: Mapping[JobState, int], stop_reasons: Mapping[str, int]
) -> Counts:
    """Return `counts` with the ends of jobs as the store has them: Redis may have lost some."""
    ends = {str(state): rows[state] for state in TERMINAL}
    return msgspec.structs.replace(counts, **ends, stop_reasons=dict(stop_reasons))


def with_spent(counts: Counts, spent: Mapping[str, int]) -> Counts:
    """Return `counts` with what was spent as the store has it, where that is more."""
    more = {name: max(getattr(counts, name), number) for name, number in spent.items()}
    return msgspec.structs.replace(counts, **more)


def agree(counts: Counts, rows: Mapping[JobState, int]) -> bool:
    """Tell whether `counts` have all the ends, and all the stop reasons, of the store's rows."""
    same = all(getattr(counts, state) == rows[state] for state in TERMINAL)
    return same and sum(counts.stop_reasons.values()) >= counts.succeeded


def _named(fields: Mapping[bytes, bytes], prefix: str) -> dict[str, int]:
    start = prefix.encode()
    named = {text(f[len(start) :]): _number(fields[f]) for f in fields if f.startswith(start)}
    return {name: number for name, number in named.items() if number is not None and number > 0}


def text(raw: bytes) -> str:
    """Return bytes from Redis as text for a person; bytes that are not UTF-8 are replaced."""
    return raw.decode(errors="replace")


def _number(raw: bytes) -> int | None:
    """Return a count within LARGEST, also from a float of Lua's; None when it is not a number."""
    if _INTEGER.fullmatch(raw):
        number: float = int(raw)
    else:
        try:
            number = float(raw)
        except ValueError:
            return None
    return None if math.isnan(number) else int(max(-LARGEST, min(number, LARGEST)))


def _limits(raw: bytes) -> Limits:
    try:
        return msgspec.json.decode(raw, type=Limits)
    except (msgspec.MsgspecError, UnicodeDecodeError, InvalidLimitError):
        return Limits()
