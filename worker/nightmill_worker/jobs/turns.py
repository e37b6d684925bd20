"""What a paid answer that is no result leaves behind: its turn, and the release to the next call.

Pure, but for the time. `chain` has the rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.checked.structured import structured
from nightmill.queue import keys
from nightmill.records.job import now_ms, request_hash
from nightmill.records.message import NULL
from nightmill.records.result import ErrorInfo
from nightmill.records.state import JobState
from nightmill.records.stop_reasons import TRUNCATED as MAX_TOKENS
from nightmill.records.stop_reasons import WHOLE
from nightmill.records.turn import CONTINUED, PAUSED, REFUSED, Turn
from nightmill_worker.jobs.chain import chain_of, joined, next_of, request_of
from nightmill_worker.jobs.retry import Again
from nightmill_worker.jobs.rows import amounts, attempt_of, release_of, reserved_usage
from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.outcome import Fail, Succeeded
from nightmill_worker.queue.records import Release

if TYPE_CHECKING:
    from nightmill.pricing.cost import Prices
    from nightmill.records.turn import Why
    from nightmill_worker.checks.messages import Verdict
    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.messages.outcome import Broken, Outcome, Reply

INPUT_CUT: Final = "input_cut"
"""Error type of an answer that max_tokens cut inside a tool's input."""
UNCHECKED: Final = "check_failed"
"""Error type of an answer whose check gave no verdict: it is kept, and not paid for again."""
_FIX_CHECK: Final = (
    "correct the check; the answer is in the job's row, and `nightmill retry` calls again"
)
AT_ONCE: Final = Again(state=JobState.SNOOZED, wait_ms=0, counted=False)
_WORDS: Final = {
    PAUSED: "the answer paused; it is continued",
    "truncated": "cut at max_tokens; called again with more",
    REFUSED: "refused by the model; called again with another one",
}


class Continuation(msgspec.Struct, frozen=True, kw_only=True):
    """A paid answer to store, and the release of its job once it is stored."""

    turn: Turn
    release: Release


def next_step_of(
    claimed: ClaimedJob, outcome: Outcome, verdict: Verdict, prices: Prices
) -> Continuation | ErrorInfo | None:
    """Return what follows from an answer that is no result; None for every other outcome."""
    problem = verdict.problem
    if isinstance(outcome, Succeeded):
        if verdict.fault:
            return ErrorInfo(type=UNCHECKED, message=verdict.fault, fix=_FIX_CHECK)
        if not problem and outcome.stop_reason in WHOLE:
            return None
        stop_reason = outcome.stop_reason
    elif isinstance(outcome, Fail) and outcome.error.type == INPUT_CUT:
        stop_reason = MAX_TOKENS
    else:
        return None
    found = next_of(stop_reason, claimed.accept, claimed.turns, claimed.body, problem)
    if isinstance(found, ErrorInfo):
        return found if isinstance(outcome, Succeeded) else None
    return None if found is None else _continued(claimed, outcome, found, problem, prices)


def _continued(
    claimed: ClaimedJob, outcome: Succeeded | Fail, why: Why, problem: str, prices: Prices
) -> Continuation:
    granted, usage = claimed.granted, outcome.usage
    answer = outcome if isinstance(outcome, Succeeded) else None
    error = ErrorInfo(type=why, message=problem or _WORDS.get(why, ""))
    attempt = attempt_of(claimed, CONTINUED, counted=False, outcome=outcome, wait_ms=0)
    attempt = msgspec.structs.replace(
        attempt, error_type=error.type, error_message=error.message, usage=None
    )
    turn = Turn(
        job_id=granted.id,
        run=claimed.job.run,
        n=len(claimed.turns) + 1,
        batch=claimed.job.batch or keys.SINGLES,
        request_hash=request_hash(claimed.body, claimed.job.api),
        why=why,
        problem=problem or None,
        message=msgspec.Raw(answer.message) if answer else NULL,
        usage=usage,
        usage_unknown=bool(answer and answer.usage_unknown),
        bill=prices.bill(answer.model if answer else None, usage, asked=granted.model),
        call=granted.calls,
        at=now_ms(),
    )
    release = release_of(claimed, AT_ONCE, attempt)
    turns = (*claimed.turns, turn)
    used, costs = [each.usage for each in turns], [each.cost for each in turns]
    for _ in filter(lambda each: each.usage_unknown, turns):
        used.append(reserved_usage(claimed))
        costs.append(prices.cost(granted.model, used[-1]))
    other = claimed.accept.other_model if why == REFUSED else None
    release = msgspec.structs.replace(
        release,
        chain=1,
        to=_queue(claimed, other) if other else "",
        **amounts(used, costs),
    )
    return Continuation(turn=turn, release=release)


def moved(claimed: ClaimedJob) -> Release | None:
    """Return the release of a job whose next call belongs to another model's queue.

    That is so when Redis lost the job, and it was fed again. None: it is in the right queue.
    """
    other = claimed.accept.other_model
    if other is None or all(turn.why != REFUSED for turn in claimed.turns):
        return None
    if claimed.granted.model == other:
        return None
    release = release_of(claimed, AT_ONCE, None)
    return msgspec.structs.replace(release, to=_queue(claimed, other))


def whole_answer(claimed: ClaimedJob, reply: Reply | Broken) -> bytes:
    """Return the Message to check, with the paused answers before it; b"" when none is accepted.

    An answer that is called again anyway, or fails, is not checked.
    """
    outcome = classify(reply, 0.0)
    if not isinstance(outcome, Succeeded):
        return b""
    accept, turns = claimed.accept, claimed.turns
    if next_of(outcome.stop_reason, accept, turns, claimed.body) is not None:
        return b""
    return joined(outcome.message, chain_of(turns, accept).parts)


def body_of(claimed: ClaimedJob) -> bytes:
    """Return the request to send: the job's own, or the next one of its chain."""
    body = claimed.body
    if claimed.turns:
        body = request_of(body, claimed.accept, claimed.turns)
    return structured(body, claimed.accept)


def _queue(claimed: ClaimedJob, model: str) -> str:
    """Return the queue of the job's batch, or of single jobs, whose jobs call `model`."""
    return f"{keys.QUEUE}:{claimed.job.batch or ''}:{model}"
