"""What a worker sends to the scripts, and what a claim gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec


class Ask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A claim; claim.lua explains its fields."""

    worker: str
    seq: int
    account: str
    want: int
    lease_ms: int
    functions: dict[str, bool]
    model: str
    groups: tuple[tuple[str, str, int], ...] = ()
    only: str | None = None
    rehearsal: bool = False
    share: float = 0.0
    keep: int = 0


class GrantedJob(msgspec.Struct, frozen=True, kw_only=True):
    """One granted job: payload, token of its lease, attempts so far, reservation."""

    id: str
    token: str
    payload: bytes
    queue: str
    model: str
    counted: int
    refusals: int
    snoozes: int
    calls: int
    verdict: Literal["run", "alone", "aborted", "refused", "poison", "unreadable", "gone"]
    reservation: bytes
    attempts: bytes
    cut: bytes
    claimed_at: int
    outages: int = 0
    failed_at: int = 0
    """When its first call failed, epoch ms by Redis's clock; 0 when none has."""
    lane: str
    """The name of its lane in the account: the model, or what several models share."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a claim. Times are ms by Redis's clock.

    `account` has no `state` unless the account is stopped or a trial is under way. `held` is
    model -> (held or stopped, why) of the lanes whose jobs wait.
    """

    now_ms: int
    wait_ms: int
    jobs: tuple[GrantedJob, ...]
    aborts: frozenset[str]
    account: dict[str, str]
    held: dict[str, tuple[str, str]]
    accepts: dict[str, str] = {}
    """Batch -> accept_id, of granted jobs' batches that have an acceptance."""


class Settlement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One answer as settle.lua accounts for it; settle.lua explains the fields."""

    token: str
    model: str
    outcome: Literal["ok", "refused", "failed", "rejected", "stop", "suspect", "unsent", "begun"]
    reservation: msgspec.Raw
    latency_ms: int
    bytes: int
    reported: dict[str, tuple[int, int]] = {}
    gate: str | None = None
    input: int | None = None
    output: int | None = None
    retry_after_ms: int | None = None
    reason: str | None = None
    job: str | None = None
    kind: str | None = None
    own: bool = False
    lane: str | None = None
    """The lane's name where it is not the model's."""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """One job to give back (release.lua). `attempt` is the call's record as JSON, "" for none."""

    id: str
    token: str
    queue: str
    state: Literal["retrying", "snoozed"]
    wait_ms: int
    counted: int
    refused: int
    failed: int
    attempt: str
    input: int = 0
    output: int = 0
    cost: int = 0
    chain: int = 0
    """1: the amounts are those of the whole run so far, and `attempt` is a turn."""
    to: str = ""
    """The queue that the job goes to, "" for its own."""


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """One job whose row is committed (finish.lua). `kept` goes under arq:result:<id>."""

    id: str
    token: str
    queue: str
    status: str
    again: int
    input: int
    output: int
    cost: int
    fault: str
    kept: bytes
    notice: tuple[str, ...] = ()
    """The id and the JSON of the notice that the job has ended; () for none."""
    stop: str = ""
    """The name that the row's answer is counted under; see records.stop_reasons."""
    wasted: dict[str, int] = {}
    """Kind -> nano-dollars of its cost that bought no result; see records.waste."""


class Lease(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One lease to prolong (renew.lua). With `answered` it lasts ANSWERED_MS from now on."""

    id: str
    token: str
    queue: str
    lane: str
    answered: bool = False


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed job as restore.lua puts it back into a Redis that has lost it."""

    id: str
    token: str
    queue: str
    lane: str
    calls: int
    counted: int
    snoozes: int
    refusals: int
    outages: int
    failed_at: int
    calling: bool
    """Whether the call is under way: an answered one has given its slot back."""
    attempts: list[str]
    cut: str
    payload: bytes


class Late:
    """Ids of a renewal or release whose jobs are not held any more.

    `lost`: another worker holds or has ended them. `gone`: Redis knows nothing of them.
    """

    __slots__ = ("gone", "lost")

    def __init__(self) -> None:
        """Start empty."""
        self.lost: set[str] = set()
        self.gone: set[str] = set()

    def add(self, answer: Sequence[Sequence[bytes]]) -> None:
        """Add what a script returned."""
        lost, gone = answer
        self.lost.update(each.decode() for each in lost)
        self.gone.update(each.decode() for each in gone)
