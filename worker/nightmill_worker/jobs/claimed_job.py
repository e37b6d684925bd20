"""One job in flight in this process: what was claimed, what it asks, how far it is. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import InvalidParamsError, PayloadError
from nightmill.params import Defaults, recheck
from nightmill.pricing.cost import cost
from nightmill.queue import result_keys, wire
from nightmill.records.job import Job, now_ms, request_hash
from nightmill.records.limits import NANO
from nightmill.records.result import Attempt, ErrorInfo, Result, Usage, story
from nightmill.records.state import JobState
from nightmill_worker.queue.scripts import Finish, Lease, Settlement

if TYPE_CHECKING:
    import asyncio
    from typing import Literal

    from nightmill_worker.messages.outcome import Succeeded
    from nightmill_worker.queue.scripts import GrantedJob

    Ended = Literal["ok", "refused", "failed", "rejected", "stop", "unsent"]

NUMBERS: Final = re.compile(r"\d+")
"""Left out of a fault: ids, positions and sizes differ between failures of one kind."""
FAULT_CHARS: Final = 200
UNPRICED: Final = -1
"""The cost of a call that finish.lua is told when no price is known."""
_EMPTY = Job(params=msgspec.Raw(b"{}"))


class ClaimedJob:
    """A claimed job on its way through the executor; `problem` says why it needs no call."""

    __slots__ = (
        "account",
        "body",
        "claimed",
        "ended_at",
        "ending",
        "enqueued_at",
        "job",
        "problem",
        "started_at",
        "task",
        "worker",
    )

    def __init__(self, claimed: GrantedJob, worker: str, account: str, defaults: Defaults) -> None:
        """Decode and validate what was claimed; a bad payload becomes `problem`, never raises."""
        self.claimed = claimed
        self.account = account
        self.worker = worker
        self.started_at = now_ms()
        self.ended_at: int | None = None
        self.ending: Literal["", "abort", "shutdown", "lost"] = ""
        self.task: asyncio.Task[None] | None = None
        self.job, self.enqueued_at, self.body, self.problem = _EMPTY, self.started_at, b"", None
        try:
            self.job, self.enqueued_at = wire.decode_job(claimed.payload)
            self.body = recheck(bytes(self.job.params), defaults)
        except PayloadError as error:
            fix = "enqueue JSON: docs/wire.md; a copy is kept under nightmill:quarantine"
            self.problem = ErrorInfo(type="invalid_payload", message=str(error), fix=fix)
        except InvalidParamsError as error:
            fix = f"correct {error.field or 'the request'} and enqueue it again"
            self.problem = ErrorInfo(type="invalid_request_error", message=str(error), fix=fix)
        if claimed.verdict == "gone":
            message = "its payload was evicted, deleted or expired before it could run"
            fix = "enqueue it again; Redis needs maxmemory-policy noeviction"
            self.problem = ErrorInfo(type="payload_gone", message=message, fix=fix)
        if claimed.verdict == "poison":
            message = "the worker process died three times while running only this job"
            self.problem = ErrorInfo(type="poison", message=message, fix="look at its input")

    def __repr__(self) -> str:
        """Name the job and the lease."""
        return f"<ClaimedJob {self.claimed.id} {self.claimed.token}>"

    @property
    def lease(self) -> Lease:
        """What renewing needs."""
        c = self.claimed
        return Lease(id=c.id, token=c.token, queue=c.queue, model=c.model)

    @property
    def expired(self) -> bool:
        """Whether the job's deadline had passed when it was claimed (by Redis's clock)."""
        return self.job.expires_at is not None and self.job.expires_at <= self.claimed.claimed_at

    @property
    def call_ms(self) -> int:
        """How long the call took, or has taken so far."""
        return (self.ended_at or now_ms()) - self.started_at

    def attempt(  # noqa: PLR0913 - the fields of Attempt that a flight does not know
        self,
        outcome: str,
        *,
        counted: bool,
        status: int | None = None,
        error_type: str | None = None,
        error_message: str | None = None,
        request_id: str | None = None,
        wait_ms: int | None = None,
    ) -> Attempt:
        """Return the record of the call."""
        return Attempt(
            n=self.claimed.calls,
            started_at=self.started_at,
            duration_ms=self.call_ms,
            outcome=outcome,
            counted=counted,
            status=status,
            error_type=error_type,
            error_message=error_message,
            request_id=request_id,
            wait_ms=wait_ms,
            worker=self.worker,
        )

    def settlement(
        self,
        outcome: Ended,
        usage: Usage | None = None,
        told: dict[str, tuple[int, int]] | None = None,
    ) -> Settlement:
        """Return what the lane must know of the call that ends now."""
        c = self.claimed
        return Settlement(
            token=c.token,
            model=c.model,
            outcome=outcome,
            reservation=msgspec.Raw(c.reservation),
            latency_ms=self.call_ms,
            bytes=len(c.payload),
            told=told or {},
            input=usage.input_tokens + usage.cache_creation_input_tokens if usage else None,
            output=usage.output_tokens if usage else None,
        )

    def result(  # noqa: PLR0913 - what is known at a job's end
        self,
        status: JobState,
        attempt: Attempt | None,
        *,
        message: Succeeded | None = None,
        error: ErrorInfo | None = None,
        keep_params: bool,
        rehearsal: bool,
    ) -> Result:
        """Return the row of a job that ends now."""
        told = story(self.claimed.attempts, self.claimed.cut, attempt)
        started_at = told["started_at"]
        usage = message.usage if message else Usage()
        model = message.model if message else self.claimed.model
        return Result(
            job_id=self.claimed.id,
            status=status,
            run=self.job.run,
            batch=self.job.batch,
            custom_id=self.job.custom_id,
            seq=self.job.seq,
            model=model,
            params=msgspec.Raw(self.body) if keep_params and self.body else None,
            message=msgspec.Raw(message.message) if message else None,
            error=error,
            **told,
            usage=usage,
            cost=cost(model, usage),
            stop_reason=message.stop_reason if message else None,
            request_id=attempt.request_id if attempt else None,
            request_hash=request_hash(self.body, rehearsal=rehearsal) if self.body else None,
            enqueued_at=self.enqueued_at,
            finished_at=now_ms(),
            queue_ms=None if started_at is None else max(0, started_at - self.enqueued_at),
            worker=self.worker,
            lane=f"{self.account}:{self.claimed.model}",
        )

    def finish(self, row: Result, *, again: bool = False) -> Finish:
        """Return what takes this job out of Redis once `row` is committed."""
        c = self.claimed
        return Finish(
            id=c.id,
            token=c.token,
            queue=c.queue,
            status=row.status,
            again=int(again),
            input=row.usage.input_tokens + row.usage.cache_creation_input_tokens,
            output=row.usage.output_tokens,
            cost=UNPRICED if row.cost is None else round(row.cost * NANO),
            fault=_fault(row),
            kept=result_keys.kept(row, c.queue),
        )


def _fault(row: Result) -> str:
    """Return what a row failed of, the same for failures of one kind; "" unless it failed."""
    if row.status is not JobState.FAILED or row.error is None:
        return ""
    if row.error.type.startswith("attachment_"):  # the messages name a file each
        return row.error.type
    return f"{row.error.type}: {NUMBERS.sub('#', row.error.message)[:FAULT_CHARS]}"
