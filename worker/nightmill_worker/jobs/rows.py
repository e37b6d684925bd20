"""What a job leaves behind: its attempt's record, its row, and the entries of the scripts.

The body of a row is built here and nowhere else. Pure, but for the time of the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypedDict

import msgspec

from nightmill.errors import SettingsError
from nightmill.queue import notices, result_keys, webhooks
from nightmill.records.error_types import LINKED
from nightmill.records.job import is_rehearsal, now_ms, request_hash
from nightmill.records.limits import NANO
from nightmill.records.message import Message
from nightmill.records.result import Attempt, ErrorInfo, Result, Usage, history_of
from nightmill.records.state import JobState
from nightmill.records.stop_reasons import counted_as
from nightmill.records.waste import wasted_of
from nightmill_worker.jobs.joining import with_turns
from nightmill_worker.jobs.retry import Past
from nightmill_worker.messages.outcome import Succeeded
from nightmill_worker.queue.records import Finish, Release, Settlement

if TYPE_CHECKING:
    from typing import Literal

    from nightmill.pricing.cost import Prices
    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.jobs.retry import Again
    from nightmill_worker.messages.outcome import Outcome

    SettledAs = Literal["ok", "refused", "failed", "rejected", "stop", "suspect", "unsent", "begun"]

NUMBERS: Final = re.compile(r"\d+")
"""Left out of a fault: ids, positions and sizes differ between failures of one kind."""
FAULT_CHARS: Final = 200
_NO_USAGE: Final = Usage()
UNPRICED: Final = -1
"""The cost of a call that finish.lua gets when no price is known."""


class _Guess(msgspec.Struct, frozen=True):
    input: float = 0
    output: float = 0


class _Reservation(msgspec.Struct, frozen=True):
    guess: _Guess = _Guess()


_reservation = msgspec.json.Decoder(_Reservation)


def attempt_of(  # noqa: PLR0913 - the facts of one call
    claimed: ClaimedJob,
    state: str,
    *,
    counted: bool,
    outcome: Outcome | None = None,
    error: ErrorInfo | None = None,
    wait_ms: int | None = None,
    prices: Prices | None = None,
) -> Attempt:
    """Return the record of a call: how it ended, and the wait before the next one (ms).

    `error` is for a call without an outcome, one that was cut off, say. `prices` are for an outcome
    that may have reported its usage.
    """
    unknown, partial, usage, price = False, "", None, None
    if isinstance(outcome, Succeeded):
        unknown = outcome.usage_unknown
    elif outcome is not None:
        error, partial = outcome.error, outcome.partial
        if outcome.usage != _NO_USAGE:
            usage = outcome.usage
            price = prices.cost(claimed.granted.model, usage) if prices else None
    return Attempt(
        n=claimed.granted.calls,
        started_at=claimed.started_at,
        duration_ms=claimed.call_ms,
        outcome=state,
        counted=counted,
        status=outcome.status if outcome else None,
        error_type=error.type if error else None,
        error_message=(error.message or None) if error else None,
        request_id=outcome.request_id if outcome else None,
        wait_ms=wait_ms,
        worker=claimed.worker,
        usage_unknown=unknown,
        partial=partial or None,
        usage=usage,
        cost=price,
    )


def reserved_usage(claimed: ClaimedJob) -> Usage:
    """Return the tokens that the claim reserved: what an answer without usage is charged."""
    try:
        guess = _reservation.decode(claimed.granted.reservation).guess
    except msgspec.MsgspecError:
        return Usage()
    return Usage(input_tokens=int(guess.input), output_tokens=int(guess.output))


def settlement_of(
    claimed: ClaimedJob,
    settled_as: SettledAs,
    *,
    usage: Usage | None = None,
    reported: dict[str, tuple[int, int]] | None = None,
) -> Settlement:
    """Return what the lane must know of the call: its time, its tokens, the reported limits."""
    granted = claimed.granted
    return Settlement(
        token=granted.token,
        model=granted.model,
        lane=None if granted.lane == granted.model else granted.lane,
        outcome=settled_as,
        reservation=msgspec.Raw(granted.reservation),
        latency_ms=claimed.call_ms,
        bytes=len(granted.payload),
        reported=reported or {},
        input=usage.input_tokens + usage.cache_creation_input_tokens if usage else None,
        output=usage.output_tokens if usage else None,
    )


def past_of(claimed: ClaimedJob) -> Past:
    """Return the job's calls so far, with the one that has just ended.

    A job of an older worker, or of a clock that went back, has no usable time of its first failure:
    that was long ago then.
    """
    granted, failed_ms = claimed.granted, 0
    if granted.counted or granted.outages:
        now = granted.claimed_at + claimed.call_ms  # by Redis's clock
        failed_ms = now - granted.failed_at if granted.failed_at <= now else now
    return Past(
        attempts=granted.counted + 1,
        refusals=granted.refusals + 1,
        outages=granted.outages + 1,
        failed_ms=failed_ms,
    )


def release_of(
    claimed: ClaimedJob,
    again: Again,
    attempt: Attempt | None,
    *,
    refused: bool = False,
    failed: bool = False,
) -> Release:
    """Return what gives the job back to its queue; `refused` counts a 429, `failed` a failure."""
    granted = claimed.granted
    return Release(
        id=granted.id,
        token=granted.token,
        queue=granted.queue,
        state="retrying" if again.state is JobState.RETRYING else "snoozed",
        wait_ms=again.wait_ms,
        counted=int(again.counted),
        refused=int(refused),
        failed=int(failed),
        attempt=msgspec.json.encode(attempt).decode() if attempt else "",
        **_spent_on(attempt),
    )


class _Amounts(TypedDict):
    input: int
    output: int
    cost: int


def _spent_on(attempt: Attempt | None) -> _Amounts:
    """Return what a call without a whole answer used, as far as it was reported."""
    if attempt is None or attempt.usage is None:
        return amounts([], [])
    return amounts([attempt.usage], [attempt.cost])


def amounts(used: Sequence[Usage], costs: Sequence[float | None]) -> _Amounts:
    """Return sums as the scripts count them; without a known price, UNPRICED."""
    price = summed(costs)
    return {
        "input": sum(each.input_tokens + each.cache_creation_input_tokens for each in used),
        "output": sum(each.output_tokens for each in used),
        "cost": UNPRICED if price is None else round(price * NANO),
    }


def summed(costs: Sequence[float | None]) -> float | None:
    """Return the sum of costs, US dollars; None when one is not known."""
    known = [each for each in costs if each is not None]
    return sum(known) if len(known) == len(costs) else None


def row_of(  # noqa: PLR0913 - what is known at a job's end
    claimed: ClaimedJob,
    status: JobState,
    attempt: Attempt | None,
    *,
    answer: Succeeded | None = None,
    error: ErrorInfo | None = None,
    prices: Prices,
    keep_params: bool,
    rehearsal: bool,
) -> Result:
    """Return the row of a job that ends now."""
    granted, job, body, api = claimed.granted, claimed.job, claimed.body, claimed.job.api
    kept = bytes(job.params) if claimed.stored else body  # the store puts in what it has
    history = history_of(granted.attempts, granted.cut, attempt)
    started_at, calls = history["started_at"], history["attempts"]
    usage = answer.usage if answer else _NO_USAGE
    model = (answer and answer.model) or granted.model  # some gateways leave it out
    bill = prices.bill(model, usage, asked=granted.model)
    row = Result(
        job_id=granted.id,
        status=status,
        run=job.run,
        batch=job.batch,
        custom_id=job.custom_id,
        seq=job.seq,
        model=model,
        params=msgspec.Raw(kept) if keep_params and kept else None,
        api=api,
        message=Message(answer.message) if answer else None,
        error=error,
        **history,
        usage=usage,
        cost=None if bill is None else bill.total,
        cost_parts=bill,
        stop_reason=answer.stop_reason if answer else None,
        request_id=calls[-1].request_id if calls else None,
        request_hash=request_hash(body, api, rehearsal=rehearsal or is_rehearsal(job.batch))
        if body
        else None,
        enqueued_at=claimed.enqueued_at,
        finished_at=now_ms(),
        queue_ms=None if started_at is None else max(0, started_at - claimed.enqueued_at),
        worker=claimed.worker,
        lane=f"{claimed.account}:{granted.lane}",
    )
    return with_turns(row, claimed.turns, claimed.accept) if claimed.turns else row


def finish_of(claimed: ClaimedJob, row: Result, *, prices: Prices, again: bool = False) -> Finish:
    """Return what takes the job out of Redis once `row` is committed.

    `again` says that the row was committed by an earlier call: its usage is counted already. A row
    without known usage counts as what was reserved: a budget must not take it for free.
    """
    granted, used, costs = claimed.granted, [row.usage], [row.cost]
    if row.usage_unknown:
        used.append(reserved_usage(claimed))
        costs.append(prices.cost(row.model, used[-1], asked=granted.model))
    elif row.message is None and row.attempts and row.attempts[-1].usage:  # its last call broke off
        used.append(row.attempts[-1].usage)
        costs.append(row.attempts[-1].cost)
    spent = amounts(used, costs)
    return Finish(
        id=granted.id,
        token=granted.token,
        queue=granted.queue,
        status=row.status,
        again=int(again),
        **spent,
        wasted=wasted_of(row, spent["cost"]),
        fault=_fault(row),
        kept=result_keys.kept(row, granted.queue),
        stop=counted_as(row.status, row.stop_reason),
        notice=_notice(claimed, row),
    )


def _notice(claimed: ClaimedJob, row: Result) -> tuple[str, ...]:
    """Return the notice that a single job has ended; () when nobody asked for one."""
    url = claimed.job.on_complete
    if url is None or row.batch is not None:
        return ()
    try:
        webhooks.require_url(url)
    except SettingsError:  # of a producer that does not check it
        return ()
    return notices.of_job(row, url)


def _fault(row: Result) -> str:
    """Return why a row failed, the same text for failures of one kind; "" unless it failed.

    An error of one user profile says nothing about the jobs of others, so it pauses no batch.
    """
    if row.status is not JobState.FAILED or row.error is None or row.error.type in LINKED:
        return ""
    if row.error.type.startswith("attachment_"):  # each message names another file
        return row.error.type
    return f"{row.error.type}: {NUMBERS.sub('#', row.error.message)[:FAULT_CHARS]}"
