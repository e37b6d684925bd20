"""Every failure is in the API's envelope, and every answer has its id."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from nightmill import errors
from nightmill_gateway.answers import body
from nightmill_gateway.answers.errors import ApiError, api_error
from nightmill_gateway.answers.log import _Log
from tests.gateway.door import Door, opened

if TYPE_CHECKING:
    from tests.rig import Rig


async def test_an_unknown_route(door: Door) -> None:
    """The SDKs read the envelope, and support asks for the id."""
    first, second = await door("GET", "/nothing"), await door("GET", "/nothing")
    assert first.error == second.error == (404, "not_found_error")
    assert first.headers["request-id"] != second.headers["request-id"]
    assert first.headers["request-id"].startswith("req_")


async def test_a_method_that_a_route_does_not_have(door: Door) -> None:
    """The error names the methods that it has."""
    answer = await door("POST", "/healthz")
    assert answer.error == (405, "invalid_request_error")
    assert answer.headers["allow"] == "GET, HEAD"
    assert "GET" in answer.message


async def test_health_is_open_and_readiness_looks_at_both_parts(door: Door) -> None:
    """A load balancer has no key."""
    for path in ("/healthz", "/readyz"):
        answer = await door("GET", path, key="")
        assert (answer.status, answer.json) == (200, {"ok": True})
        assert "request-id" in answer.headers


async def test_not_ready_without_redis_or_store(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A balancer takes it out; nobody without a key learns where the parts are."""

    async def away(*_: object) -> None:
        raise errors.StoreUnavailableError("at secret.example")

    monkeypatch.setattr(type(door.services.store), "probe", away)
    monkeypatch.setattr(door.services.redis, "ping", away)
    answer = await door("GET", "/readyz", key="")
    assert answer.error == (503, "api_error")
    assert answer.message == "not ready: no answer from Redis and the results store"
    assert (await door("GET", "/healthz", key="")).status == 200


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.InvalidParamsError("a", "b"), 400, "invalid_request_error"),
        (errors.PayloadTooLargeError("", "b"), 413, "request_too_large"),
        (errors.QueueUnavailableError("redis at 10.0.0.1"), 529, "overloaded_error"),
        (errors.QueueFullError(), 529, "overloaded_error"),
        (errors.StoreUnavailableError("db at 10.0.0.1"), 529, "overloaded_error"),
    ],
)
def test_errors_of_nightmill_have_a_status(error: Exception, status: int, kind: str) -> None:
    """A part that is away comes back: the SDKs try again after a 529, and see no address."""
    found = api_error(error)
    assert found is not None
    assert (found.status, found.type) == (status, kind)
    assert "10.0.0.1" not in str(found)
    assert ("retry-after" in found.headers) == (status == 529)


async def test_a_defect_is_a_500_and_its_text_stays_in_the_log(
    door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text of an exception may quote another tenant's data."""

    async def broken(*_: object) -> None:
        raise KeyError("their prompt")

    monkeypatch.setattr("nightmill.store.access_keys.AccessKeys.get", broken)
    answer = await door("GET", "/nothing")
    assert answer.error == (500, "api_error")
    assert "their prompt" not in answer.message
    logged = capsys.readouterr().err
    assert answer.json["request_id"] in logged
    assert "their prompt" in logged


async def test_the_log_is_json_with_request_ids_and_without_texts_of_users(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At debug there is a line for each request: its route is a template, its body is not there."""
    changes = {"log_format": "json", "log_level": "debug"}
    settings = rig.settings.model_copy(update=changes)
    log = _Log()
    log.begin(settings)
    monkeypatch.setattr("nightmill_gateway.answers.log._LOG", log)
    async with opened(settings) as door:
        answers = [
            await door("GET", "/v1/messages/batches/a-secret-id?q=a-secret-id"),
            await door("POST", "/v1/messages", json={"model": "a-secret-id", "max_tokens": -1}),
            await door("GET", "/a-secret-id"),
        ]
        asked = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
        made = await door(
            "POST", "/v1/jobs", json={"id": "mine", "batch": "night", "params": asked}
        )
        assert made.status == 202, made.json
        await door("GET", f"/v1/jobs/{made.json['id']}")
        await door("GET", "/v1/jobs/a-secret-id")
    text = capsys.readouterr().err
    *lines, created, looked, missed = (json.loads(line) for line in text.splitlines())
    assert "a-secret-id" not in text
    assert (created["job_id"], created["batch"], created["status"]) == (
        looked["job_id"],
        looked["job_id"].partition(":")[0],
        202,
    )
    assert not {"job_id", "batch"} & missed.keys()
    assert [line["request_id"] for line in lines] == [each.json["request_id"] for each in answers]
    assert [(line["event"], line["level"], line["route"], line["status"]) for line in lines] == [
        ("request ended", "debug", "/v1/messages/batches/{id}", 404),
        ("request ended", "debug", "/v1/messages", 400),
        ("request ended", "debug", "other", 404),
    ]


async def test_a_client_that_leaves_with_its_whole_answer_did_not_hang_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a gateway notes after the answer takes a moment; curl closes its connection at once."""
    statuses: list[int] = []
    seen, noted = asyncio.Event(), asyncio.Event()

    async def note(_: object) -> None:
        await noted.wait()

    def see(*about: object) -> None:
        statuses.append(about[3])  # type: ignore[arg-type]
        seen.set()

    monkeypatch.setattr("nightmill_gateway.sendings.Sent.written", note)
    monkeypatch.setattr("nightmill_gateway.app.note_request", see)
    async with opened(rig.settings) as door:
        asked = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
        made = await door(
            "POST", "/v1/jobs", json={"params": asked}, headers={"connection": "close"}
        )
        async with asyncio.timeout(20):
            await seen.wait()
        noted.set()
    assert (made.status, statuses) == (202, [202])


class Slow:
    """A body that stops after its first piece."""

    def __init__(self, size: int | None = None) -> None:
        """Say a length, or none."""
        self.content_length = size
        self.content = asyncio.StreamReader()
        self.content.feed_data(b"x" * 10)


async def test_a_body_that_stops_ends_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stalls would hold its connection, and what it sent, for ever."""
    monkeypatch.setattr(body, "IDLE_S", 0.01)
    with pytest.raises(ApiError) as caught:
        await body.read_body(Slow())  # type: ignore[arg-type] # what is read of a request
    assert caught.value.status == 408


@pytest.mark.parametrize("size", [None, 10])
async def test_a_body_over_the_limit_is_413(size: int | None) -> None:
    """With a length it is refused before it is read, without one as soon as it is too long."""
    with pytest.raises(ApiError) as caught:
        await body.read_body(Slow(size), most=9)  # type: ignore[arg-type] # as above
    assert (caught.value.status, caught.value.type) == (413, "request_too_large")
    assert "9 bytes" in str(caught.value)


def test_a_status_of_another_kind_has_a_type() -> None:
    """Each error has one of the API's types, whatever its status is."""
    kinds = {status: ApiError(status, "x").type for status in (408, 409, 415, 501, 503, 504)}
    invalid, server = "invalid_request_error", "api_error"
    assert kinds == {
        408: invalid,
        409: invalid,
        415: invalid,
        501: server,
        503: server,
        504: server,
    }
