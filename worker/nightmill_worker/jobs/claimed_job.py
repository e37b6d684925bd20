"""One claimed job in this process: what was claimed, its request, and how far its call is.

Facts only: `decision` builds what follows from them. No I/O.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import InvalidAcceptanceError, InvalidParamsError, PayloadError
from nightmill.params import Defaults, recheck
from nightmill.queue import keys, wire
from nightmill.records.acceptance import DEFAULT, from_text
from nightmill.records.error_types import STANDARD
from nightmill.records.job import Job, now_ms
from nightmill.records.message import NULL
from nightmill.records.result import Attempt, ErrorInfo
from nightmill.records.stored_body import stored_body
from nightmill_worker.events import JobFacts
from nightmill_worker.jobs.chain import fitting
from nightmill_worker.messages.outcome import SUCCESS
from nightmill_worker.queue.records import Lease

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from typing import Literal

    from nightmill.records.stored_body import StoredBody
    from nightmill.records.turn import Turn
    from nightmill_worker.queue.records import GrantedJob

REFUSED: Final = range(300, 500)
"""Statuses of a refusal."""
_TOO_MANY: Final = 429
"""The status of a refusal that is never the fault of one job."""
NO_TURNS: Final[tuple[Turn, ...]] = ()
_EMPTY: Final = Job(params=msgspec.Raw(b"{}"))
# A payload that ends processes is not decoded; these fields stand behind its request.
_SEQ: Final = re.compile(rb'"seq":\s*(\d{1,9})\b')
_RUN: Final = re.compile(rb'"run":\s*(\d{1,9})\b')


class ClaimedJob:
    """A claimed job on its way through the executor; `problem` says why it needs no call."""

    __slots__ = (
        "accept",
        "account",
        "began_s",
        "body",
        "cut_off_by",
        "ended_s",
        "enqueued_at",
        "granted",
        "job",
        "problem",
        "started_at",
        "stored",
        "task",
        "turns",
        "worker",
    )

    def __init__(self, granted: GrantedJob, worker: str, account: str, defaults: Defaults) -> None:
        """Take what was claimed and read it, unless it must run isolated (see `isolation`)."""
        self.granted = granted
        self.account = account
        self.worker = worker
        self.begin()
        self.ended_s: float | None = None
        self.cut_off_by: Literal["", "abort", "shutdown", "lost"] = ""
        self.task: asyncio.Task[None] | None = None
        self.job, self.enqueued_at, self.body = _EMPTY, self.started_at, b""
        self.stored: StoredBody | None = None
        self.problem: ErrorInfo | None = None
        self.accept, self.turns = DEFAULT, NO_TURNS
        if granted.verdict != "alone":  # reading it may have ended a worker
            self.read(defaults)

    def read(self, defaults: Defaults) -> None:
        """Decode and validate the payload; one that is no job becomes `problem`, never raises."""
        granted = self.granted
        try:
            self.job, self.enqueued_at = wire.decode_job(granted.payload, granted.id)
            params = bytes(self.job.params)
            self.stored = stored_body(params, self.job.batch)
            self.body = b"" if self.stored else recheck(params, defaults)
            if self.job.accept is not NULL:
                self.accept = from_text(self.job.accept)
        except PayloadError as error:
            fix = "enqueue JSON: docs/wire.md; a copy is kept under nightmill:quarantine"
            self.problem = ErrorInfo(type="invalid_payload", message=str(error), fix=fix)
        except InvalidParamsError as error:
            fix = f"correct {error.field or 'the request'} and enqueue it again"
            self.problem = ErrorInfo(type="invalid_request_error", message=str(error), fix=fix)
        except InvalidAcceptanceError as error:
            self.refuse_acceptance(error)
        if granted.verdict == "gone":
            message = "its payload was evicted, deleted or expired before it could run"
            fix = "enqueue it again; Redis needs maxmemory-policy noeviction"
            self.problem = ErrorInfo(type="payload_gone", message=message, fix=fix)
        if granted.verdict == "poison":
            message = "the worker process died three times while running only this job"
            self.problem = ErrorInfo(type="poison", message=message, fix="look at its input")
        if granted.verdict == "refused":
            self.problem = _refusal(granted.attempts)

    def go_on_from(self, turns: Sequence[Turn]) -> list[Turn]:
        """Take the turns of this run and request; return those of others, which are of no use.

        A job whose request is not read yet takes all of them until it is.
        """
        if not self.body:
            self.turns = tuple(turns)
            return []
        mine, others = fitting(turns, self.job, self.body)
        self.turns = tuple(mine)
        return others

    def load(self, body: bytes) -> None:
        """Take the request that was in the store."""
        self.body = body
        self.go_on_from(self.turns)

    def refuse_acceptance(self, error: InvalidAcceptanceError) -> None:
        """Note that it cannot be known which answers are results of this job: it is not called."""
        fix = "correct `accept` (docs/wire.md) and run `nightmill retry`"
        self.problem = ErrorInfo(type="invalid_acceptance", message=str(error), fix=fix)

    def name(self) -> None:
        """Name a job that must not be read: its batch, custom_id, seq and run, for its row."""
        granted = self.granted
        batch, _, custom_id = granted.id.partition(":")
        batched = granted.queue.startswith(f"{keys.QUEUE}:{batch}:")
        self.job = Job(
            params=msgspec.Raw(b"{}"),
            batch=batch if batched else None,
            custom_id=custom_id if batched else None,
            seq=_number(_SEQ, granted.payload),
            run=_number(_RUN, granted.payload) or 0,
        )

    def __repr__(self) -> str:
        """Name the job and the lease."""
        return f"<ClaimedJob {self.granted.id} {self.granted.token}>"

    def begin(self) -> None:
        """Note that the call begins now.

        `started_at` (epoch ms) is for the record. `began_s` is monotonic: a wall clock that is set
        while the call runs must not change how long the call took.
        """
        self.started_at = now_ms()
        self.began_s = time.monotonic()

    def end(self) -> None:
        """Note that the call ends now."""
        self.ended_s = time.monotonic()

    @property
    def facts(self) -> JobFacts:
        """What names it in events."""
        granted = self.granted
        queued_in = granted.queue.removeprefix(f"{keys.QUEUE}:")  # a payload may be unreadable
        return JobFacts(
            job_id=granted.id,
            batch="" if queued_in == keys.QUEUE else queued_in.partition(":")[0],
            attempt=granted.calls,
            account=self.account,
            lane=granted.lane,
        )

    @property
    def lease(self) -> Lease:
        """What renewing the lease needs."""
        granted = self.granted
        return Lease(id=granted.id, token=granted.token, queue=granted.queue, lane=granted.lane)

    @property
    def expired(self) -> bool:
        """Whether the job's deadline had passed when it was claimed (by Redis's clock)."""
        return self.job.expires_at is not None and self.job.expires_at <= self.granted.claimed_at

    @property
    def call_ms(self) -> int:
        """How long the call took, or has taken so far, milliseconds."""
        ended_s = time.monotonic() if self.ended_s is None else self.ended_s
        return round((ended_s - self.began_s) * 1000)


def _refusal(attempts: bytes) -> ErrorInfo:
    """Return the error of the last call that the endpoint refused, from the attempts as JSON."""
    try:
        calls = msgspec.json.decode(attempts, type=list[Attempt])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        calls = []
    refused = (call for call in reversed(calls) if _is_refusal(call))
    last = next(refused, Attempt(n=0, started_at=0, outcome="lost"))
    return ErrorInfo(
        type=last.error_type or "permission_error",
        message=last.error_message or "the endpoint refused this request",
        fix="calls that were made later succeeded, so it is this request that is refused: change it"
        " and requeue it",
    )


def _is_refusal(call: Attempt) -> bool:
    """Tell whether a call was refused for what may concern its job; a 200 may hold the error."""
    kind = call.error_type
    if kind is None or call.status is None or call.counted:
        return False
    status = STANDARD.get(kind, call.status)
    return status != _TOO_MANY and (status in REFUSED or status in SUCCESS)


def _number(pattern: re.Pattern[bytes], payload: bytes) -> int | None:
    found = pattern.findall(payload)
    return int(found[-1]) if found else None
