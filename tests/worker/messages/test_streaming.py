"""Long calls are streamed although they do not ask for it: a silent call would be cut and paid."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from aiohttp import web

from nightmill.records.job import request_hash
from nightmill.records.state import JobState
from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.messages.outcome import Broken, Reply
from nightmill_worker.messages.streaming import Streaming, streamed
from tests.rig import hello, rigged
from tests.worker.messages.endpoint import EVENTS, MESSAGE, serving, settings, sse

LONG = b'{"max_tokens": 7501, "messages": []}'
SHORT = b'{"max_tokens": 7500, "messages": []}'
CHOSEN = b'{"max_tokens": 7500, "messages": [], "stream": false}'


class Endpoint:
    """Answers a stream with `status` (200: a stream) and other calls with `plain`."""

    def __init__(self, status: int = 200, plain: int = 200) -> None:
        """Take the two statuses."""
        self.status, self.plain = status, plain
        self.bodies: list[dict[str, object]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        self.bodies.append(json.loads(await request.read()))
        streams = bool(self.bodies[-1].get("stream"))
        if (status := self.status if streams else self.plain) != 200:
            return web.json_response({"error": {"message": "no"}}, status=status)
        if streams:
            return web.Response(body=sse(EVENTS), content_type="text/event-stream")
        return web.json_response(MESSAGE)

    @property
    def streams(self) -> list[bool]:
        """Which calls asked for a stream."""
        return [bool(body.get("stream")) for body in self.bodies]


async def replies(endpoint: Endpoint, *calls: bytes) -> list[Reply]:
    """Return the answers to calls of one client, in turn."""
    found = []
    async with serving(endpoint.answer) as url, MessagesClient(settings(url)) as client:
        for params in calls:
            reply = await client.send(params)
            assert isinstance(reply, Reply)
            found.append(reply)
    return found


async def test_the_headers_of_a_stream_are_told_when_it_starts() -> None:
    """The limits were known when the first call of 20 s had ended; a whole answer shows nothing."""
    begun: list[Mapping[str, str]] = []
    released = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if not json.loads(await request.read()).get("stream"):
            return web.json_response(MESSAGE)
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "x-n": "7"})
        await response.prepare(request)
        await released.wait()
        await response.write(sse(EVENTS))
        return response

    def started(headers: Mapping[str, str]) -> None:
        begun.append(headers)
        released.set()

    async with serving(answer) as url, MessagesClient(settings(url)) as client:
        reply = await client.send(b'{"max_tokens": 1, "stream": true}', started)
        assert isinstance(reply, Reply)
        assert reply.status == 200
        await client.send(b'{"max_tokens": 1, "stream": false}', started)
    assert [headers["x-n"] for headers in begun] == ["7"]


@pytest.mark.parametrize("extra", [b"", b', "stream": false', b', "stream":null'])
def test_stream_is_added_and_all_else_stays(extra: bytes) -> None:
    """The endpoint gets the same request, to the digit."""
    body = streamed(b' { "max_tokens": 16001' + extra + b', "temperature": 0.50}')
    assert json.loads(body) == {"max_tokens": 16001, "stream": True, "temperature": 0.5}
    assert b"0.50" in body
    assert body.count(b"stream") == 1


@pytest.mark.parametrize(
    ("read_timeout_s", "params", "expected"),
    [
        (300, LONG, True),
        (300, SHORT, False),
        (300, b'{"max_tokens": 99999, "stream": true}', False),
        (300, b'{"max_tokens": 99999, "stream": false}', True),
        (86_400, b'{"max_tokens": 16000}', False),
        (86_400, b'{"max_tokens": 16001}', True),
        (2, b'{"max_tokens": 51}', True),
        (300, b'{"max_tokens": "many"}', False),
        (300, b"not json", False),
        (300, b"{}", False),
    ],
)
def test_a_call_is_long_by_its_max_tokens(
    read_timeout_s: float,
    params: bytes,
    expected: bool,  # noqa: FBT001
) -> None:
    """At 50 tokens a second it may last half of READ_TIMEOUT_S."""
    call = Streaming(read_timeout_s).begin(params)
    assert (call is not None and call.long) is expected


async def test_a_long_call_is_streamed_and_gives_the_same_message() -> None:
    """Who asked for a Message gets a Message."""
    endpoint = Endpoint()
    for reply in await replies(endpoint, LONG, CHOSEN):
        assert json.loads(reply.body) == MESSAGE
    assert endpoint.streams == [True, False]


@pytest.mark.parametrize("status", [400, 404, 405, 415, 422])
async def test_an_endpoint_that_refuses_streams_is_called_without(status: int) -> None:
    """At once, and the next call begins without: a refusal each would double the calls."""
    endpoint = Endpoint(status)
    for reply in await replies(endpoint, LONG, LONG, LONG):
        assert json.loads(reply.body) == MESSAGE
    assert endpoint.streams == [True, False, False, False]


async def test_a_request_that_is_wrong_itself_does_not_end_streaming() -> None:
    """The repeated call is refused too: its own answer stands, and the next call is streamed."""
    endpoint = Endpoint(400, 422)
    first, second = await replies(endpoint, LONG, LONG)
    assert (first.status, second.status) == (422, 422)
    assert endpoint.streams == [True, False, True, False]


@pytest.mark.parametrize("status", [401, 403, 413, 429, 500, 529])
async def test_other_refusals_are_not_about_streaming(status: int) -> None:
    """They are answered as they are."""
    endpoint = Endpoint(status)
    (reply,) = await replies(endpoint, LONG)
    assert (reply.status, endpoint.streams) == (status, [True])


async def test_a_stream_that_the_request_asks_for_is_not_repeated() -> None:
    """Its refusal is the answer."""
    endpoint = Endpoint(400)
    (reply,) = await replies(endpoint, LONG.replace(b"{", b'{"stream": true, ', 1))
    assert (reply.status, endpoint.streams) == (400, [True])


def paused(
    pieces: list[bytes], content_type: str
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a handler that sends `pieces` with a pause of 0.15 s before each."""

    async def handler(request: web.Request) -> web.Response:
        response = web.StreamResponse(headers={"content-type": content_type})
        await response.prepare(request)
        for piece in pieces:
            await asyncio.sleep(0.15)
            await response.write(piece)
        await response.write_eof()
        return response  # type: ignore[return-value]

    return handler


@pytest.mark.parametrize("streams", [True, False])
async def test_an_answer_that_goes_on_is_not_cut_as_a_whole(streams: bool) -> None:  # noqa: FBT001
    """READ_TIMEOUT_S is for silence: an answer may take longer while its bytes arrive."""
    body = json.dumps(MESSAGE).encode()
    pieces = (
        [sse([event]) for event in EVENTS]
        if streams
        else [body[i : i + 20] for i in range(0, len(body), 20)]
    )
    handler = paused(pieces, "text/event-stream" if streams else "application/json")
    async with serving(handler) as url, MessagesClient(settings(url, read_timeout_s=0.4)) as client:
        reply = await client.send(b'{"max_tokens": 1}')
    assert isinstance(reply, Reply)
    assert json.loads(reply.body) == MESSAGE


async def test_an_endpoint_that_refuses_streams_may_be_silent_for_the_whole_call() -> None:
    """Otherwise each long call to it would be cut after READ_TIMEOUT_S, paid and repeated."""

    async def handler(request: web.Request) -> web.Response:
        if json.loads(await request.read()).get("stream"):
            return web.Response(status=400)
        await asyncio.sleep(0.5)
        return web.json_response(MESSAGE)

    async with serving(handler) as url, MessagesClient(settings(url, read_timeout_s=0.2)) as client:
        assert isinstance(await client.send(LONG), Reply)
        assert isinstance(await client.send(b'{"max_tokens": 1}'), Broken)


async def test_hash_and_row_are_those_of_the_request_as_it_was_written(
    redis_url: str, tmp_path: Path
) -> None:
    """Who runs the same request again must find its row, streamed or not."""
    asked = {**hello(), "model": "claude-opus-4-6", "max_tokens": 8000}
    async with rigged(redis_url, tmp_path) as rig:
        receipt = await rig.producer.enqueue(asked)
        await rig.work_off()
        row = await rig.row(receipt.job_id)
        assert rig.sim.ledger.totals.calls == 1
    assert row.status is JobState.SUCCEEDED
    assert row.params is not None
    assert json.loads(bytes(row.params)) == asked
    assert row.request_hash == request_hash(row.params)
