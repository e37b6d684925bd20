"""The row of an ended job: the Result, its Attempts, its Usage. Times are epoch ms."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypedDict

import msgspec

from nightmill.records.api import NO_API, Api
from nightmill.records.job import REHEARSED, is_rehearsal
from nightmill.records.message import NULL, Message
from nightmill.records.place import Place
from nightmill.records.state import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

READ: Final = "_read"
"""Where a Result keeps the function that reads its output: no field, it is not stored."""
TOKENS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
"""The four counts of tokens that every table and sum has."""
COUNTS: Final = (*TOKENS, "cache_creation_1h_input_tokens", "web_search_requests")
"""The numbers of a Usage."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a call was billed for, as the endpoint's `usage` names it."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0
    """Those of `cache_creation_input_tokens` that are kept for an hour; the others for 5 min."""
    web_search_requests: int = 0
    billed_as: str = ""
    """What changes the rates, separated by spaces: `us`, `fast`, `batch`. See pricing.rules."""

    def __add__(self, other: Usage) -> Usage:
        """Return the sum of two calls. Their costs are added up call by call: see Bill."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_input_tokens=self.cache_read_input_tokens + other.cache_read_input_tokens,
            cache_creation_input_tokens=self.cache_creation_input_tokens
            + other.cache_creation_input_tokens,
            cache_creation_1h_input_tokens=self.cache_creation_1h_input_tokens
            + other.cache_creation_1h_input_tokens,
            web_search_requests=self.web_search_requests + other.web_search_requests,
            billed_as=self.billed_as or other.billed_as,
        )


class Bill(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cost of calls by its parts, US dollars."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float = 0.0
    cache_write_5m: float = 0.0
    cache_write_1h: float = 0.0
    web_search: float = 0.0

    @property
    def cache_write(self) -> float:
        """What writes to the cache cost, whatever their life."""
        return self.cache_write_5m + self.cache_write_1h

    @property
    def total(self) -> float:
        """The sum of the parts, which is what the calls cost."""
        return (
            self.input
            + self.output
            + self.cache_read
            + self.cache_write_5m
            + self.cache_write_1h
            + self.web_search
        )

    def __add__(self, other: Bill) -> Bill:
        """Return the bill of both."""
        return Bill(
            input=self.input + other.input,
            output=self.output + other.output,
            cache_read=self.cache_read + other.cache_read,
            cache_write_5m=self.cache_write_5m + other.cache_write_5m,
            cache_write_1h=self.cache_write_1h + other.cache_write_1h,
            web_search=self.web_search + other.web_search,
        )


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attempt or a job failed: the endpoint's `error.type` and message, and the fix."""

    type: str
    message: str
    fix: str | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of a job."""

    n: int
    """Number of the call, from 1 over all runs."""
    started_at: int
    outcome: str
    """A job state; or "lost" when the worker died during the call."""
    duration_ms: int = 0
    counted: bool = True
    """Whether the call counts against MAX_ATTEMPTS."""
    status: int | None = None
    """HTTP status; None when there was no answer."""
    error_type: str | None = None
    error_message: str | None = None
    request_id: str | None = None
    """The endpoint's `request-id` header."""
    wait_ms: int | None = None
    """Wait before the next call; None on the last one."""
    worker: str | None = None
    usage_unknown: bool = False
    """Whether the answer did not report its tokens: they are 0 in the row, but were paid."""
    partial: str | None = None
    """The beginning of an answer that was cut off; None when nothing of it was received."""
    usage: Usage | None = None
    """Tokens that an answer reported before it was cut off: they are paid for, beside the row's."""
    billed: Usage | None = None
    """Tokens of an answer that the job went on from; the row's usage has them too."""
    answer: msgspec.Raw = NULL
    """Such an answer (a Message), unless the row's message has its content: then null."""
    cost: float | None = None
    """US dollars for `usage` or `billed`; None without either, or without a known price."""


class Result(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The one stored row of a job; final for its (job_id, run)."""

    job_id: str
    status: JobState
    run: int = 0
    """0 for the first run; a requeue replaces the row and adds 1."""
    turns: int = 0
    """Paid answers before the last one, whose tokens `usage` has: see Acceptance."""
    batch: str | None = None
    """The batch's name; None for a single job."""
    custom_id: str | None = None
    seq: int | None = None
    """Line number in the batch's source, from 1; None for a single job."""
    model: str | None = None
    params: msgspec.Raw | None = None
    """The request as it was sent (JSON); None when KEEP_PARAMS is off."""
    api: Api = NO_API
    """The API version and the betas that its calls asked for."""
    message: Message | None = None
    """The endpoint's Message, a dict; of a failed job, the answer that was not accepted."""
    error: ErrorInfo | None = None
    attempts: tuple[Attempt, ...] = ()
    """The first 5 and the last 20 calls; the counts below are of all calls."""
    attempt_count: int = 0
    """Calls that counted against MAX_ATTEMPTS."""
    snooze_count: int = 0
    """Calls that did not count: refused (429), stopped account, shutdown, lost worker."""
    snooze_reasons: dict[str, int] = {}
    """Reason -> how many of `snooze_count`."""
    usage: Usage = Usage()
    cost: float | None = None
    """US dollars; None when the model has no known price."""
    cost_parts: Bill | None = None
    """The parts that `cost` is the sum of; None when they are not known."""
    stop_reason: str | None = None
    request_id: str | None = None
    """The endpoint's `request-id` of the last call."""
    request_hash: str | None = None
    """See `records.job.request_hash`; None when the request could not be read."""
    enqueued_at: int = 0
    started_at: int | None = None
    """When the first call started; None when no call was made."""
    finished_at: int = 0
    queue_ms: int | None = None
    """Wait before the first call, milliseconds; None when no call was made."""
    call_ms: int = 0
    """Time in all calls, milliseconds."""
    worker: str | None = None
    lane: str | None = None
    """`<account>:<lane>`: whose limits the last call was held to. See LIMIT_GROUPS."""

    def __post_init__(self) -> None:
        """Read a message that is given as raw JSON, which was this field's type before."""
        given: object = self.message
        if isinstance(given, msgspec.Raw):
            msgspec.structs.force_setattr(self, "message", Message(given))

    @property
    def text(self) -> str:
        """The text blocks of the message, joined; "" when there are none."""
        return "" if self.message is None else self.message.text

    @cached_property
    def parsed(self) -> Any:  # noqa: ANN401 - any JSON value, or an instance of a model
        """The output of a job that succeeded, where its batch has a schema; else None.

        It is an instance of the pydantic class that the Producer was given as `schema`, else a
        JSON value. Raises pydantic's ValidationError when validators of the class refuse it.
        """
        read = self.__dict__.get(READ)
        return None if read is None else read(self)

    def read_by(self, read: Callable[[Result], object]) -> Result:
        """Let `parsed` be what `read` returns; return this result."""
        self.__dict__.pop("parsed", None)
        self.__dict__[READ] = read
        return self

    @property
    def rehearsal(self) -> bool:
        """Whether it is from a rehearsal: a simulator answered."""
        return is_rehearsal(self.batch) or (self.request_hash or "").startswith(REHEARSED)

    @property
    def usage_unknown(self) -> bool:
        """Whether the answer did not report its tokens; `usage` and `cost` are too low then."""
        return bool(self.attempts) and self.attempts[-1].usage_unknown

    @property
    def cursor(self) -> str:
        """Its place in the order of `Batch.results`, which goes on behind it: `after=cursor`."""
        return Place(self.seq or 0, self.job_id).cursor

    def __repr__(self) -> str:
        """Show the job, how it ended, and after how many calls."""
        calls = self.attempt_count + self.snooze_count
        return f"<Result {self.job_id} run={self.run} {self.status} calls={calls}>"


KEPT_FIRST = 5
KEPT_LAST = 20


def trimmed(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Return the first KEPT_FIRST and the last KEPT_LAST attempts, all when they are fewer."""
    if len(attempts) <= KEPT_FIRST + KEPT_LAST:
        return attempts
    return attempts[:KEPT_FIRST] + attempts[-KEPT_LAST:]


class _Cut(msgspec.Struct, frozen=True):
    """Sums over the calls between the first and the last ones, as common.lua keeps them."""

    counted: int = 0
    call_ms: int = 0
    reasons: dict[str, int] = {}


class History(TypedDict):
    """The fields of a Result that are about its calls; see there."""

    attempts: tuple[Attempt, ...]
    attempt_count: int
    snooze_count: int
    snooze_reasons: dict[str, int]
    started_at: int | None
    call_ms: int


_attempts = msgspec.json.Decoder(tuple[Attempt, ...])
_cut = msgspec.json.Decoder(_Cut)
_NO_CUT: Final = _Cut()


def history_of(past: bytes, cut: bytes, last: Attempt | None = None) -> History:
    """Return the history of one run from what Redis holds of it.

    `past` is a JSON array of the earlier attempts. `cut` is the JSON of the sums over attempts
    that are not in `past`, b"" for none. `last` is the attempt that ends the run. Bytes that
    cannot be read count as none: the history is lost, and the job is not.
    """
    earlier, between = _read_past(past, cut)
    attempts = (*earlier, last) if last else earlier
    counted, call_ms, reasons = between.counted, between.call_ms, dict(between.reasons)
    for attempt in attempts:
        call_ms += attempt.duration_ms
        if attempt.counted:
            counted += 1
        else:
            reason = attempt.error_type or attempt.outcome
            reasons[reason] = reasons.get(reason, 0) + 1
    return History(
        attempts=trimmed(attempts),
        attempt_count=counted,
        snooze_count=sum(reasons.values()) if reasons else 0,
        snooze_reasons=reasons,
        started_at=attempts[0].started_at if attempts else None,
        call_ms=call_ms,
    )


def _read_past(past: bytes, cut: bytes) -> tuple[tuple[Attempt, ...], _Cut]:
    try:
        earlier = () if past == b"[]" else _attempts.decode(past)
        return earlier, _cut.decode(cut) if cut else _NO_CUT
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return (), _NO_CUT
