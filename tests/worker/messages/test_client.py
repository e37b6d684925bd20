"""The client against correct servers on loopback."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from pydantic import SecretStr

from nightmill.errors import SettingsError
from nightmill.records.api import Api
from nightmill_worker.messages.client import MessagesClient, messages_url
from nightmill_worker.messages.outcome import Reply
from tests.worker.messages.endpoint import EVENTS, MESSAGE, PARAMS, sent, serving, settings, sse


async def received_body(params: bytes) -> bytes:
    """Return the body that an endpoint receives for `params`, the second call to their model."""
    bodies: list[bytes] = []

    async def handler(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.json_response(MESSAGE)

    async with serving(handler) as url, MessagesClient(settings(url)) as client:
        await client.send(PARAMS)
        await client.send(b'{"max_tokens": 1}')
        assert isinstance(await client.send(params), Reply)
    return bodies[-1]


@pytest.mark.parametrize(
    ("credential", "name", "value"),
    [
        ({"api_key": SecretStr("sk-1\n")}, "x-api-key", "sk-1"),
        ({"api_key": None, "auth_token": SecretStr("tok")}, "Authorization", "Bearer tok"),
        ({"api_key": None}, None, None),
    ],
)
async def test_a_call_carries_one_credential_and_the_version(
    credential: dict[str, object], name: str | None, value: str | None
) -> None:
    """Endpoints refuse two credentials. A key read from a file ends with a line end."""
    requests: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        requests.append(request)
        return web.json_response(MESSAGE, headers={"Request-Id": "req_1"})

    async with serving(handler) as url:
        reply = await sent(url, PARAMS, **credential)
    assert isinstance(reply, Reply)
    assert reply.headers.get("request-id") == "req_1"
    assert json.loads(reply.body) == MESSAGE
    headers = requests[0].headers
    assert (requests[0].method, requests[0].path) == ("POST", "/v1/messages")
    carried = {key: headers[key] for key in ("x-api-key", "Authorization") if key in headers}
    assert carried == ({name: value} if name else {})
    assert headers["anthropic-version"] == "2023-06-01"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("nightmill/")


async def test_a_call_has_the_headers_of_the_settings() -> None:
    """Beta features need anthropic-beta, and there was no way to send it."""
    requests = []

    async def handle(request: web.Request) -> web.Response:
        requests.append(request.headers)
        return web.json_response(MESSAGE)

    headers = SecretStr("anthropic-beta: one,two")
    async with serving(handle) as url, MessagesClient(settings(url, headers=headers)) as client:
        await client.send(PARAMS)
    assert requests[0]["anthropic-beta"] == "one,two"
    assert requests[0]["x-api-key"] == "sk-secret"


async def test_a_job_asks_for_its_version_and_betas_beside_those_of_the_settings() -> None:
    """A beta was one for all calls or for none: the setting was the only way to send it."""
    requests = []

    async def handle(request: web.Request) -> web.Response:
        requests.append(request.headers)
        return web.json_response(MESSAGE)

    headers = SecretStr("anthropic-beta: one,two")
    api = Api(anthropic_version="2026-10-21", anthropic_beta=("two", "three"))
    async with serving(handle) as url, MessagesClient(settings(url, headers=headers)) as client:
        await client.send(PARAMS, api=api)
        await client.send(PARAMS)
    asked = [(h.getall("anthropic-version"), h.getall("anthropic-beta")) for h in requests]
    assert asked == [(["2026-10-21"], ["one,two,three"]), (["2023-06-01"], ["one,two"])]
    assert [h["x-api-key"] for h in requests] == ["sk-secret"] * 2


@pytest.mark.parametrize("base", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
@pytest.mark.parametrize("path", ["", "/gateway"])
def test_a_base_url_may_have_v1_a_slash_or_a_path(base: str, path: str) -> None:
    """Users paste all of these forms."""
    url = base.replace(":1", f":1{path}")
    assert str(messages_url(url)) == f"http://h:1{path}/v1/messages"


@pytest.mark.parametrize("base", ["http://", "http://[bad", "ftp://h", "http://h:99999"])
def test_an_invalid_base_url_is_refused_at_once(base: str) -> None:
    """It is found when the worker starts, not by 10,000 jobs."""
    with pytest.raises(SettingsError, match="BASE_URL"):
        messages_url(base)


def test_a_password_in_the_base_url_is_refused_without_showing_it() -> None:
    """It would be a second credential, which logs would show."""
    with pytest.raises(SettingsError, match="BASE_URL") as caught:
        messages_url("http://me:hunter2@h")
    assert "hunter2" not in str(caught.value)


def test_a_credential_that_no_header_can_carry_is_refused_without_showing_it() -> None:
    """A line end inside it would add a header to the request."""
    with pytest.raises(SettingsError) as caught:
        MessagesClient(settings("http://h", api_key=SecretStr("sk-1\r\nevil: 1")))
    assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize("version", ["2023-06-01\nevil: 1", "2023-06-01\udcff", "2023–06–01"])  # noqa: RUF001
def test_a_version_that_no_header_can_carry_is_a_wrong_setting(version: str) -> None:
    """It is one line for its user, not a traceback."""
    with pytest.raises(SettingsError, match="ANTHROPIC_VERSION"):
        MessagesClient(settings("http://h", anthropic_version=version))


async def test_a_header_of_the_settings_is_sent_instead_of_the_same_one() -> None:
    """Two of the same name would be joined, or the first would count."""
    found: list[list[str]] = []

    async def handler(request: web.Request) -> web.Response:
        found.append(request.headers.getall("accept"))
        return web.json_response(MESSAGE)

    async with serving(handler) as url:
        await sent(url, PARAMS)
        await sent(url, PARAMS, headers=SecretStr("Accept: application/json"))
    assert found == [["*/*"], ["application/json"]]


@pytest.mark.parametrize(
    "params",
    [
        PARAMS,
        b'{"max_tokens": 7500, "x": 1.50, "stream":false}',
        b'{"max_tokens": 99999, "stream" : true}',
        b'{"max_tokens": "many"}',
        b"not json",
        b'{"max_tokens": 1, "pad": "' + b"x" * (3 << 20) + b'"}',
    ],
    ids=len,
)
async def test_params_are_posted_as_they_are(params: bytes) -> None:
    """The bytes that were validated and hashed are sent. The endpoint judges the rest."""
    assert await received_body(params) == params


async def test_a_stream_is_returned_as_its_message_and_keeps_the_connection() -> None:
    """A new connection for each streamed call would cost a TLS handshake."""
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for event in EVENTS:
            await response.write(sse([event]))
        await response.write_eof()
        return response

    async with serving(handler) as url, MessagesClient(settings(url)) as client:
        for _ in range(3):
            reply = await client.send(b'{"stream": true}')
            assert isinstance(reply, Reply)
            assert json.loads(reply.body) == MESSAGE
    assert len(peers) == 1


async def test_redirects_are_not_followed_and_errors_not_retried() -> None:
    """The credential is sent only to the base URL, and a call is made once."""
    calls: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        calls.append(request.path)
        return web.Response(status=307, headers={"location": "/elsewhere"})

    async with serving(handler) as url:
        reply = await sent(url)
    assert isinstance(reply, Reply)
    assert (reply.status, calls) == (307, ["/v1/messages"])


async def test_a_cancelled_call_is_cancelled() -> None:
    """Shutdown and abort need the cancellation. All else is returned as a value."""
    arrived = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        arrived.set()
        await asyncio.Event().wait()
        return web.Response()

    async with serving(handler) as url, MessagesClient(settings(url)) as client:
        call = asyncio.create_task(client.send(PARAMS))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_many_calls_share_one_session_without_a_limit() -> None:
    """Only the lane limits calls in flight. A limit of the session would distort it."""
    together = asyncio.Barrier(120)

    async def handler(_: web.Request) -> web.Response:
        await together.wait()
        return web.json_response(MESSAGE)

    async with serving(handler) as url, MessagesClient(settings(url)) as client:
        replies = await asyncio.gather(*(client.send(PARAMS) for _ in range(120)))
    assert all(isinstance(reply, Reply) for reply in replies)
