"""A job's calls as one chain: what is accepted, what the next request is, how answers are joined.

Pure. A job is called again when its answer paused, was cut, was refused or did not pass its check.
Each such answer is a Turn; the next request is made of the job's own request and its turns.
"""

from __future__ import annotations

from contextlib import suppress
from functools import reduce
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from nightmill.records.acceptance import MAX_PAUSES
from nightmill.records.job import request_hash
from nightmill.records.message import NULL, is_null
from nightmill.records.result import ErrorInfo
from nightmill.records.stop_reasons import FIXES, REFUSAL
from nightmill.records.stop_reasons import TRUNCATED as MAX_TOKENS
from nightmill.records.turn import INVALID, PAUSED, REFUSED, TRUNCATED
from nightmill_worker.jobs.sent_back import sent_back, tool_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nightmill.records.acceptance import Acceptance
    from nightmill.records.job import Job
    from nightmill.records.turn import Turn, Why

CONTEXT: Final = "model_context_window_exceeded"
UNFINISHED: Final = "unfinished"
SHOWN: Final = 2000
"""Characters of a check's problem that the model and the row get."""
ASK_AGAIN: Final = "Your output was not accepted: {problem}\nGive the whole corrected output again."

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_value: Callable[[bytes], object] = msgspec.json.Decoder().decode


Found: TypeAlias = "Why | ErrorInfo | None"
"""What follows from an answer: a Why calls again, an ErrorInfo fails the job, None accepts it."""


class Chain(msgspec.Struct):
    """What the turns of a job change in its request, and what they leave for its message."""

    parts: list[Turn]
    """Paused answers whose content is joined with the next one's."""
    dialogue: list[dict[str, object]]
    """Messages behind the request's own: answers that did not pass, and what was wrong."""
    doublings: int = 0
    pauses: int = 0
    asked: int = 0
    refused: bool = False


def chain_of(turns: Sequence[Turn], accept: Acceptance) -> Chain:
    """Return what `turns` add up to."""
    chain = Chain(parts=[], dialogue=[])
    for turn in turns:
        if turn.why == PAUSED:
            chain.parts.append(turn)
            chain.pauses += 1
        elif turn.why == TRUNCATED:
            chain.doublings += 1
        elif turn.why == REFUSED:
            chain.refused, chain.parts = True, []
        else:
            content = sent_back(_content([*chain.parts, turn]))
            if accept.check_reask == "turn" and content:
                chain.dialogue.append({"role": "assistant", "content": content})
                chain.dialogue.append({"role": "user", "content": _objection(content, turn)})
            chain.asked, chain.parts = chain.asked + 1, []
    return chain


def request_of(body: bytes, accept: Acceptance, turns: Sequence[Turn]) -> bytes:
    """Return the next request of a job; `body` is its own one."""
    chain = chain_of(turns, accept)
    fields = _fields(body)
    messages: list[object] = [*_raws(fields["messages"]), *chain.dialogue]
    if content := sent_back(_content(chain.parts), last=True):
        messages.append({"role": "assistant", "content": content})
    changed: dict[str, object] = {**fields, "messages": messages}
    if chain.doublings:
        changed["max_tokens"] = _grown(fields, chain.doublings, accept)
    if chain.refused and accept.other_model:
        changed["model"] = accept.other_model
    return _encode(changed)


def joined(message: bytes, parts: Sequence[Turn]) -> bytes:
    """Return a Message with the content of paused answers before its own, and all their usage."""
    if not parts:
        return message
    fields: dict[str, object] = dict(_fields(message))
    fields["content"] = [*_content(parts), *_content_of(message)]
    used = [_usage(bytes(part.message)) for part in parts if not is_null(part.message)]
    if "usage" in fields:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # it is odd JSON
            fields["usage"] = reduce(_summed, map(_value, used), _value(_usage(message)))
    return _encode(fields)


def next_of(
    stop_reason: str | None,
    accept: Acceptance,
    turns: Sequence[Turn],
    body: bytes,
    problem: str = "",
) -> Found:
    """Decide about an answer; see Found.

    `problem` says why the output did not pass, "" when it did or need not.
    """
    rule = _RULES.get(stop_reason or "")
    found = rule(accept, turns, body) if rule is not None else None
    if found is not None or not problem:
        return found
    asked = chain_of(turns, accept).asked
    if asked < accept.check_retries:
        return INVALID
    times = f" (asked {asked + 1} times)" if asked else ""
    fix = "change the prompt or the schema; all answers are in the job's history"
    if stop_reason == MAX_TOKENS:
        fix = "the answer was cut at max_tokens: raise it, or use --on-truncated grow"
    return ErrorInfo(type=INVALID, message=f"{problem[:SHOWN]}{times}", fix=fix)


def fitting(turns: Sequence[Turn], job: Job, body: bytes) -> tuple[list[Turn], list[Turn]]:
    """Return the turns of a job's run and request, and those of others up to that run."""
    mine: list[Turn] = []
    others: list[Turn] = []
    hashed = request_hash(body, job.api)
    for turn in turns:
        fits = turn.run == job.run and turn.request_hash == hashed
        if fits and turn.n == len(mine) + 1:
            mine.append(turn)
        elif turn.run <= job.run:
            others.append(turn)
    return mine, others


def _of_paused(accept: Acceptance, turns: Sequence[Turn], _: bytes) -> Found:
    """Decide about an answer that paused."""
    if accept.on_pause == "keep":
        return None
    paused = chain_of(turns, accept).pauses
    if paused < MAX_PAUSES:
        return PAUSED
    return ErrorInfo(
        type=UNFINISHED,
        message=f"the answer paused again after it was continued {paused} times",
        fix="ask for less in one request; the content so far is in the row",
    )


def _of_refusal(accept: Acceptance, turns: Sequence[Turn], _: bytes) -> Found:
    """Decide about an answer that the model refused."""
    if accept.on_refusal == "keep":
        return None
    if accept.other_model and not chain_of(turns, accept).refused:
        return REFUSED
    by = f"{accept.other_model} too" if accept.other_model else "the model"
    return ErrorInfo(type=REFUSED, message=f"refused by {by}", fix=FIXES[REFUSAL])


def _of_context(_: Acceptance, _turns: Sequence[Turn], _body: bytes) -> Found:
    """Fail a job whose answer was cut because the context window is full."""
    return ErrorInfo(
        type="context_exceeded",
        message="the answer was cut: the context window of the model is full",
        fix=FIXES[CONTEXT],
    )


def _of_truncated(accept: Acceptance, turns: Sequence[Turn], body: bytes) -> Found:
    """Decide about an answer that max_tokens cut."""
    if accept.on_truncated == "keep":
        return None
    fields, doublings = _fields(body), chain_of(turns, accept).doublings
    sent = _grown(fields, doublings, accept) if doublings else _max_tokens(fields)
    if accept.on_truncated == "grow" and sent < (accept.max_tokens_ceiling or 0):
        return TRUNCATED
    fix = FIXES[MAX_TOKENS]
    if accept.on_truncated == "grow":
        fix = "raise --max-tokens-ceiling, or ask for a shorter answer"
    return ErrorInfo(type=TRUNCATED, message=f"cut at max_tokens {sent:,}", fix=fix)


_RULES: Final[dict[str, Callable[[Acceptance, Sequence[Turn], bytes], Found]]] = {
    PAUSED: _of_paused,
    CONTEXT: _of_context,
    MAX_TOKENS: _of_truncated,
    REFUSAL: _of_refusal,
}
"""Stop reason -> its rule; answers with any other one are accepted."""


def _max_tokens(fields: dict[str, msgspec.Raw]) -> int:
    number = msgspec.json.decode(fields.get("max_tokens", b"1"))
    return number if isinstance(number, int) else 1


def _grown(fields: dict[str, msgspec.Raw], doublings: int, accept: Acceptance) -> int:
    first = _max_tokens(fields)
    return max(first, min(first << doublings, accept.max_tokens_ceiling or first))


def _content(turns: Sequence[Turn]) -> list[msgspec.Raw]:
    """Return the content blocks of answers, in order."""
    return [
        block
        for turn in turns
        if not is_null(turn.message)
        for block in _content_of(bytes(turn.message))
    ]


def _content_of(message: bytes) -> list[msgspec.Raw]:
    content = bytes(_fields(message).get("content", b"[]")).strip()
    if content.startswith(b"["):
        return _raws(content)
    return [] if content == b"null" else [msgspec.Raw(b'{"type":"text","text":%b}' % content)]


def _usage(message: bytes) -> msgspec.Raw:
    return _fields(message).get("usage", NULL)


def _summed(total: object, more: object) -> object:
    """Return two usages as one: numbers are added up, what is no number stays as it is."""
    if isinstance(total, dict) and isinstance(more, dict):
        return {**more, **{key: _summed(total[key], more.get(key)) for key in total}}
    if total is None or isinstance(total, dict):
        return more if total is None else total
    numbers = isinstance(total, int | float) and isinstance(more, int | float)
    return total + more if numbers and not isinstance(total, bool) else total  # type: ignore[operator]


def _objection(content: list[msgspec.Raw], turn: Turn) -> object:
    """Return what the user's turn says: as a tool's result, where a tool was called."""
    text = ASK_AGAIN.format(problem=(turn.problem or "")[:SHOWN])
    if not (calls := tool_calls(content)):
        return text
    about = {"type": "tool_result", "content": text, "is_error": True}
    return [{**about, "tool_use_id": each} for each in calls]
