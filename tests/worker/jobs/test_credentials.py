"""A credential that an endpoint repeats: it reaches no row, no Redis record and no event."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable

import msgspec
import pytest
from aiohttp import web
from pydantic import SecretStr

from nightmill.records.result import ErrorInfo
from nightmill.safety.redaction import HIDDEN
from nightmill_worker.jobs.decision import Answered, Decider, Decision
from nightmill_worker.jobs.defects import Verdict
from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.messages.outcome import Broken, Fail, Reply, Retry
from tests.worker.jobs.test_decision import MESSAGE, claimed
from tests.worker.messages.endpoint import serving, settings

KEY = "sk-ant-api03-Zm9v/bar+Qx7_w-9AA"
BASE64 = base64.b64encode(f"x-api-key: {KEY}".encode()).decode()
ESCAPED = "".join(f"\\u{ord(char):04x}" for char in KEY)


def decider(**changes: object) -> Decider:
    """Return a decider of a process with the credential."""
    given = settings("http://h", api_key=SecretStr(KEY), **changes)
    return Decider(given, random.Random(0))


def text_of(decision: Decision) -> str:
    """Return all that a decision holds, but its event."""
    return msgspec.json.encode(msgspec.structs.replace(decision, event=None, claimed=None)).decode()


def revealed(decision: Decision) -> bool:
    """Return whether any text of a decision reveals the credential."""
    text = text_of(decision)
    return any(form in text for form in (KEY, KEY[:12], BASE64[20:40], ESCAPED[6:60]))


def decided(reply: Reply | Broken) -> Decision:
    """Return the decision about a reply."""
    return decider(max_attempts=1).after_call(Answered(claimed(), reply), 0.0)


def error(text: str) -> bytes:
    """Return an error of the API with `text`, which is part of a JSON string."""
    return f'{{"type":"error","error":{{"type":"api_error","message":"{text}"}}}}'.encode()


REPLIES: dict[str, Reply | Broken] = {
    "plain": Reply(status=401, body=f"no such key: {KEY}".encode()),
    "json": Reply(status=401, body=error(f"no such key: {KEY}")),
    "escaped": Reply(status=400, body=error(f"no such key: {ESCAPED}")),
    "base64": Reply(status=403, body=error(f"Authorization: {BASE64}")),
    "200 error": Reply(status=200, body=error(f"no such key: {KEY}")),
    "200 page": Reply(status=200, body=f"<p>{KEY}".encode()),
    "200 cut": Reply(status=200, body=f'{{"type":"message","key":"{ESCAPED}'.encode()),
    "cut message": Reply(status=400, body=error("x" * 1_990 + KEY)),
    "cut page": Reply(status=502, body=b"<p>" + b"x" * 185 + KEY.encode()),
    "429": Reply(status=429, body=error(KEY)),
    "type": Reply(status=500, body=error("m").replace(b"api_error", KEY.encode())),
    "request id": Reply(status=500, headers={"request-id": KEY}, body=error("m")),
    "broken": Broken(kind="truncated_response", detail=KEY, status=200, partial=f"a {KEY}"),
    "answer": Reply(status=200, body=MESSAGE.replace(b"hello", f"you sent {KEY}".encode())),
    "answer in base64": Reply(status=200, body=MESSAGE.replace(b"hello", BASE64.encode())),
    "answer, escaped": Reply(status=200, body=MESSAGE.replace(b"hello", ESCAPED.encode())),
    "answer's request id": Reply(status=200, headers={"request-id": KEY}, body=MESSAGE),
}


@pytest.mark.parametrize("name", REPLIES)
def test_no_answer_brings_the_credential_anywhere(name: str) -> None:
    """An SSE error, an error in a 200 and base64 brought it to rows and exports."""
    decision = decided(REPLIES[name])
    assert HIDDEN in text_of(decision)
    assert not revealed(decision)


def test_an_answer_without_the_credential_is_stored_as_it_came() -> None:
    """It is data."""
    row = decided(Reply(status=200, body=MESSAGE)).ending
    assert row is not None
    assert row.row is not None
    assert bytes(row.row.message or b"") == MESSAGE


def test_a_credential_of_one_letter_garbles_no_error() -> None:
    """With the key "e" a credit error was not understood, and every job failed."""
    body = error("your credit balance is too low").replace(b"api_error", b"invalid_request_error")
    one = Decider(settings("http://h", api_key=SecretStr("e")), random.Random(0))
    decision = one.after_call(Answered(claimed(), Reply(status=400, body=body)), 0.0)
    assert decision.settlement.outcome == "suspect"
    assert "invalid_request_error: your credit balance is too low" in (
        decision.settlement.reason or ""
    )


@pytest.mark.parametrize("kind", [Fail, Retry])
def test_an_attachments_error_does_not_bring_it_either(kind: type[Fail | Retry]) -> None:
    """The error of a file server quotes what it got, and roots may be URLs with a password."""
    info = ErrorInfo(type="attachment_refused", message=f"{KEY} https://u:pw@h/x", fix=None)
    decision = decider(max_attempts=1).without_call(claimed(), kind(error=info))
    assert not revealed(decision)
    assert "pw@" not in text_of(decision)


def test_a_defect_does_not_bring_it_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of an exception may hold anything; the log hides it in the traceback."""
    found = decider().faulted(claimed(), ValueError(KEY), Verdict(fail=True, wait_ms=0))
    assert not revealed(found)

    def broken(*_: object) -> None:
        raise ValueError(KEY)

    monkeypatch.setattr("nightmill_worker.jobs.decision.classify", broken)
    found = decided(Reply(status=200, body=KEY.encode()))
    assert not revealed(found)


async def streamed(request: web.Request, text: str) -> web.StreamResponse:
    """Answer with a stream that ends with an error which repeats the credential."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"event: error\ndata: " + error(text) + b"\n\n")
    return response


@pytest.mark.parametrize(
    "form", [lambda key: key, lambda _: BASE64, lambda _: ESCAPED], ids=["plain", "base64", "json"]
)
async def test_an_error_event_of_a_stream_does_not_bring_it(form: Callable[[str], str]) -> None:
    """Only errors with an error status were searched, as bytes."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return await streamed(request, form(request.headers["x-api-key"]))

    async with serving(handler) as url:
        given = settings(url, api_key=SecretStr(KEY))
        async with MessagesClient(given) as client:
            reply = await client.send(json.dumps({"max_tokens": 5, "stream": True}).encode())
    decision = decided(reply)
    assert HIDDEN in text_of(decision)
    assert not revealed(decision)
