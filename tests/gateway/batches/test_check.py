"""What the API refuses is refused here, and the message names the index and the field."""

from __future__ import annotations

from typing import Any

import pytest

from nightmill.errors import InvalidParamsError, PayloadTooLargeError
from nightmill.params import Defaults
from nightmill_gateway.batches import check
from nightmill_gateway.batches.check import RequestsCheck, whole

DEFAULTS = Defaults(model="m", max_tokens=5, max_payload_bytes=1000)
PARAMS: dict[str, Any] = {
    "model": "claude",
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "hi"}],
}


def image(data: object) -> dict[str, Any]:
    """Return a request with an image."""
    source = {"type": "base64", "media_type": "image/png", "data": data}
    content = [{"type": "image", "source": source}]
    return {**PARAMS, "messages": [{"role": "user", "content": content}]}


def test_a_request_is_taken_as_it_is() -> None:
    """What is sent is what the client gave, in its order."""
    checking = RequestsCheck(DEFAULTS)
    first = checking.request({"custom_id": "a", "params": {**PARAMS, "stream": False}})
    second = checking.request({"custom_id": "b", "params": PARAMS})
    assert (first.seq, first.custom_id, first.model) == (1, "a", "claude")
    assert first.body.startswith(b'{"model":"claude","max_tokens":10,')
    assert (second.seq, checking.number) == (2, 2)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (3, "requests.1: given 3"),
        ({"params": PARAMS}, "requests.1.custom_id: missing"),
        ({"custom_id": None, "params": PARAMS}, "requests.1.custom_id: given null"),
        ({"custom_id": "a b", "params": PARAMS}, "requests.1.custom_id"),
        ({"custom_id": "x" * 65, "params": PARAMS}, "requests.1.custom_id"),
        ({"custom_id": "a\n", "params": PARAMS}, "requests.1.custom_id"),
        ({"custom_id": "a", "params": PARAMS}, "that no other request of the batch has"),
        ({"custom_id": "b"}, "requests.1.params: missing"),
        ({"custom_id": "b", "params": []}, "requests.1.params: given []"),
        ({"custom_id": "b", "params": PARAMS, "more": 1}, "requests.1.more: given 1"),
        ({"custom_id": "b", "params": {**PARAMS, "stream": True}}, "requests.1.params.stream"),
        ({"custom_id": "b", "params": {**PARAMS, "max_tokens": 0}}, "requests.1.params.max_tokens"),
        ({"custom_id": "b", "params": {**PARAMS, "messages": []}}, "requests.1.params.messages"),
        (
            {"custom_id": "b", "params": {k: PARAMS[k] for k in ("model", "messages")}},
            "requests.1.params.max_tokens: missing",
        ),
        (
            {"custom_id": "b", "params": {k: PARAMS[k] for k in ("max_tokens", "messages")}},
            "requests.1.params.model: missing",
        ),
        (
            {"custom_id": "b", "params": image({"$file": "/etc/passwd"})},
            "requests.1.params.messages.0.content.0.source.data",
        ),
        ({"custom_id": "b", "params": {**PARAMS, "top_p": float("nan")}}, "params.top_p"),
        ({"custom_id": "b", "params": {**PARAMS, "system": "\ud800"}}, "params.system"),
    ],
)
def test_a_fault_is_refused_with_its_place(request_: object, problem: str) -> None:
    """A client with 100,000 requests finds the one that is wrong."""
    checking = RequestsCheck(DEFAULTS)
    checking.request({"custom_id": "a", "params": PARAMS})
    with pytest.raises(InvalidParamsError) as caught:
        checking.request(request_)
    assert problem in str(caught.value)


def test_too_large_and_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are a 413, as at the API."""
    checking = RequestsCheck(DEFAULTS)
    with pytest.raises(PayloadTooLargeError, match=r"requests\.0\.params"):
        checking.request({"custom_id": "a", "params": {**PARAMS, "system": "x" * 1000}})
    monkeypatch.setattr(check, "MAX_REQUESTS", 1)
    checking.request({"custom_id": "a", "params": PARAMS})
    with pytest.raises(PayloadTooLargeError, match="requests: over 1; make several"):
        checking.request({"custom_id": "b", "params": PARAMS})


@pytest.mark.parametrize(
    ("fields", "number", "begun", "problem"),
    [
        ({}, 0, False, "requests: missing"),
        ({}, 0, True, "requests: given []"),
        ({"more": 1}, 1, True, "more: given 1"),
        ({"nightmill": []}, 1, True, "nightmill: given []"),
        ({"nightmill": {"x": 1}}, 1, True, "nightmill.x"),
        ({"nightmill": {"expires_in": 0}}, 1, True, "nightmill.expires_in: given 0"),
        ({"nightmill": {"expires_in": True}}, 1, True, "nightmill.expires_in"),
        ({"nightmill": {"expires_in": "1h"}}, 1, True, "nightmill.expires_in"),
        ({"nightmill": {"expires_in": 1e9}}, 1, True, "nightmill.expires_in"),
    ],
)
def test_what_stands_beside_the_requests(
    fields: dict[str, Any], number: int, begun: object, problem: str
) -> None:
    """An empty list is refused, and a field that is not known may be a misspelt one."""
    with pytest.raises(InvalidParamsError) as caught:
        whole(fields, number, 86_400, begun=bool(begun))
    assert problem in str(caught.value)


def test_the_life_of_a_batch() -> None:
    """The setting holds unless the body says otherwise."""
    assert whole({}, 1, 86_400, begun=True).expires_s == 86_400
    given = {"nightmill": {"expires_in": 5}}
    assert whole(given, 1, 86_400, begun=True).expires_s == 5
