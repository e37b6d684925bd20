"""What is kept of a finished job: the Result, its Attempts, its Usage. Times are epoch ms."""

from __future__ import annotations

from typing import Final, TypedDict

import msgspec

from nightmill.records.state import JobState


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens a call was billed for, as the endpoint's `usage` names them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attempt or a job failed: the endpoint's `error.type` and message, and what to fix."""

    type: str
    message: str
    fix: str | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call, or one call that was lost with its worker.

    `n` counts from 1 over all calls; `outcome` is a job state or `lost`; `counted` says whether it
    was held against max_attempts; `wait_ms` is the wait before the next call, None on the last.
    """

    n: int
    started_at: int
    outcome: str
    duration_ms: int = 0
    counted: bool = True
    status: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    request_id: str | None = None
    wait_ms: int | None = None
    worker: str | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The one stored row of a job, terminal once per (job_id, run).

    `message` is the endpoint's Message as JSON (only when succeeded), `params` the request as sent.
    `seq` is the line number in the batch's source (1-based), None for single jobs. `attempts`
    keeps the first 5 and the last 20 calls; `attempt_count`, `snooze_count`, `snooze_reasons`
    (reason -> times) and `call_ms` (time in calls) are exact. `queue_ms` is the wait for the first
    call, None when there was none. `cost` is in US dollars, None when the price is not known.
    """

    job_id: str
    status: JobState
    run: int = 0
    batch: str | None = None
    custom_id: str | None = None
    seq: int | None = None
    model: str | None = None
    params: msgspec.Raw | None = None
    message: msgspec.Raw | None = None
    error: ErrorInfo | None = None
    attempts: tuple[Attempt, ...] = ()
    attempt_count: int = 0
    snooze_count: int = 0
    snooze_reasons: dict[str, int] = {}
    usage: Usage = Usage()
    cost: float | None = None
    stop_reason: str | None = None
    request_id: str | None = None
    request_hash: str | None = None
    enqueued_at: int = 0
    started_at: int | None = None
    finished_at: int = 0
    queue_ms: int | None = None
    call_ms: int = 0
    worker: str | None = None
    lane: str | None = None

    @property
    def text(self) -> str:
        """The message's text blocks joined, "" when there is none."""
        if self.message is None:
            return ""
        blocks = msgspec.json.decode(self.message, type=_Content).content
        return "".join(block.text for block in blocks if block.type == "text")

    def __repr__(self) -> str:
        """Say what a person looks for first: which job, how it ended, after how many calls."""
        calls = self.attempt_count + self.snooze_count
        return f"<Result {self.job_id} run={self.run} {self.status} calls={calls}>"


class _Block(msgspec.Struct):
    type: str
    text: str = ""


class _Content(msgspec.Struct):
    content: list[_Block]


KEPT_FIRST = 5
KEPT_LAST = 20


def trimmed(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Return the first KEPT_FIRST and the last KEPT_LAST attempts, all when they are fewer."""
    if len(attempts) <= KEPT_FIRST + KEPT_LAST:
        return attempts
    return attempts[:KEPT_FIRST] + attempts[-KEPT_LAST:]


class _Cut(msgspec.Struct, frozen=True):
    """What common.lua sums up of the calls between the first and the last ones."""

    counted: int = 0
    call_ms: int = 0
    reasons: dict[str, int] = {}


class Story(TypedDict):
    """The fields of a Result that tell of its calls."""

    attempts: tuple[Attempt, ...]
    attempt_count: int
    snooze_count: int
    snooze_reasons: dict[str, int]
    started_at: int | None
    call_ms: int


_attempts = msgspec.json.Decoder(tuple[Attempt, ...])
_cut = msgspec.json.Decoder(_Cut)
_NOTHING_CUT: Final = _Cut()


def story(past: bytes, cut: bytes, last: Attempt | None = None) -> Story:
    """Tell the calls of one run from what Redis has of them, `last` being the one that ends it.

    `past` is a JSON array of attempts, `cut` the JSON of what was summed up of others, or b"".
    """
    earlier = () if past == b"[]" else _attempts.decode(past)
    attempts = (*earlier, last) if last else earlier
    between = _cut.decode(cut) if cut else _NOTHING_CUT
    counted, call_ms, reasons = between.counted, between.call_ms, dict(between.reasons)
    for attempt in attempts:
        call_ms += attempt.duration_ms
        if attempt.counted:
            counted += 1
        else:
            reason = attempt.error_type or attempt.outcome
            reasons[reason] = reasons.get(reason, 0) + 1
    return Story(
        attempts=trimmed(attempts),
        attempt_count=counted,
        snooze_count=sum(reasons.values()) if reasons else 0,
        snooze_reasons=reasons,
        started_at=attempts[0].started_at if attempts else None,
        call_ms=call_ms,
    )
