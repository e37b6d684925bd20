"""The first call to a model is streamed, so that its headers report the limits at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import msgspec
import pytest
from aiohttp import web

from nightmill_worker.messages.blocks import decode_fields
from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.messages.outcome import Broken, Reply
from nightmill_worker.simulator.answer import make_answer
from nightmill_worker.simulator.request import read_prompt
from nightmill_worker.simulator.stream import events
from tests.rig import hello
from tests.worker.messages.endpoint import EVENTS, MESSAGE, serving, settings, sse

FIRST = b'{"model": "m", "max_tokens": 5}'
OTHER = FIRST.replace(b'"m"', b'"n"')
TOOL = {"name": "weather", "input_schema": {"properties": {"city": {"type": "string"}}}}


class Endpoint:
    """Answers a stream with `status` (200: a stream) and other calls with `plain`."""

    def __init__(self, status: int = 200, plain: int = 200, events: int = len(EVENTS)) -> None:
        """Take the two statuses, and how many events of a stream are sent."""
        self.status, self.plain, self.events = status, plain, events
        self.streams: list[bool] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        streams = bool(json.loads(await request.read()).get("stream"))
        self.streams.append(streams)
        if (status := self.status if streams else self.plain) != 200:
            return web.json_response({"error": {"message": "no"}}, status=status)
        if streams:
            return web.Response(body=sse(EVENTS[: self.events]), content_type="text/event-stream")
        return web.json_response(MESSAGE)

    async def call(self, *calls: bytes) -> list[Reply | Broken]:
        """Make calls with one client, in turn."""
        async with serving(self.answer) as url, MessagesClient(settings(url)) as client:
            return [await client.send(params) for params in calls]


async def test_the_first_call_to_each_model_is_streamed() -> None:
    """The limits of a cold lane were known when its first call had ended, after 20 s or more."""
    endpoint = Endpoint()
    for reply in await endpoint.call(FIRST, FIRST, OTHER, OTHER, FIRST):
        assert isinstance(reply, Reply)
        assert json.loads(reply.body) == MESSAGE
    assert endpoint.streams == [True, False, True, False, False]


async def test_one_call_is_streamed_while_the_others_go_as_they_are_written() -> None:
    """One answer's headers are enough. A stream that breaks must not cost many answers."""
    arrived = asyncio.Event()
    begun: list[Mapping[str, str]] = []
    streams: list[bool] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        streams.append(bool(json.loads(await request.read()).get("stream")))
        if not streams[-1]:
            await arrived.wait()
            return web.json_response(MESSAGE)
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "x-n": "7"})
        await response.prepare(request)
        await arrived.wait()
        await response.write(sse(EVENTS))
        return response

    def started(headers: Mapping[str, str]) -> None:
        begun.append(headers)
        arrived.set()

    async with serving(answer) as url, MessagesClient(settings(url)) as client:
        found = await asyncio.gather(*(client.send(FIRST, started) for _ in range(8)))
    assert all(isinstance(reply, Reply) and reply.status == 200 for reply in found)
    assert sorted(streams) == [False] * 7 + [True]
    assert [headers["x-n"] for headers in begun] == ["7"]


@pytest.mark.parametrize("status", [400, 404, 405, 415, 422])
async def test_a_refused_stream_is_repeated_once_without_and_remembered(status: int) -> None:
    """For the endpoint: calls to other models, and long ones, begin without a stream too."""
    endpoint = Endpoint(status)
    long = b'{"max_tokens": 99999}'
    for reply in await endpoint.call(FIRST, FIRST, OTHER, long):
        assert isinstance(reply, Reply)
        assert json.loads(reply.body) == MESSAGE
    assert endpoint.streams == [True, False, False, False, False]


@pytest.mark.parametrize("status", [401, 403, 413, 429, 500, 529])
async def test_what_is_not_about_streaming_is_not_repeated(status: int) -> None:
    """The answer stands. The next call is streamed instead, four at most."""
    endpoint = Endpoint(status)
    found = await endpoint.call(*[FIRST] * 6)
    assert [reply.status for reply in found] == [status] * 4 + [200] * 2
    assert endpoint.streams == [True] * 4 + [False] * 2


async def test_wrong_requests_end_the_first_streams() -> None:
    """A request that is refused either way costs two calls, but not each request of the batch."""
    endpoint = Endpoint(400, 400)
    await endpoint.call(*[FIRST] * 6)
    assert endpoint.streams == [True, False] * 4 + [False] * 2


@pytest.mark.parametrize(
    "error",
    [
        {"type": "invalid_request_error", "message": "Your credit balance is too low"},
        {"type": "billing_error", "message": "no"},
    ],
)
async def test_a_refusal_of_the_account_is_not_about_streaming(error: dict[str, str]) -> None:
    """The trial call of a stopped account was made twice."""
    bodies: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.json_response({"type": "error", "error": error}, status=400)

    async with serving(answer) as url, MessagesClient(settings(url)) as client:
        await client.send(FIRST)
        await client.send(b'{"max_tokens": 99999}')
    assert [json.loads(body)["stream"] for body in bodies] == [True, True]


async def test_a_stream_that_broke_off_is_neither_repeated_nor_tried_again() -> None:
    """Its answer is paid. The client must not buy it again, nor risk another one."""
    endpoint = Endpoint(events=3)
    first, second = await endpoint.call(FIRST, FIRST)
    assert isinstance(first, Broken)
    assert isinstance(second, Reply)
    assert endpoint.streams == [True, False]


@pytest.mark.parametrize("stream", [b"true", b"false", b"null"])
async def test_a_stream_that_the_user_set_stays(stream: bytes) -> None:
    """Who writes `stream` has chosen."""
    bodies: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.json_response(MESSAGE)

    params = FIRST[:-1] + b', "stream": ' + stream + b"}"
    async with serving(answer) as url, MessagesClient(settings(url)) as client:
        assert isinstance(await client.send(params), Reply)
    assert bodies == [params]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4000},
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
        {"stop_sequences": ["the"]},
        {"max_tokens": 3},
    ],
    ids=["text", "thinking", "tool", "stop", "cut"],
)
async def test_the_message_is_that_of_an_unstreamed_call(more: dict[str, object]) -> None:
    """Each field to the byte, with usage and fields that nightmill does not know."""
    asked = {"model": "claude-opus-4-6", "max_tokens": 500, **hello(), **more}
    answer = make_answer(read_prompt(msgspec.json.encode(asked)), 1, 60)
    usage = msgspec.convert(answer.body["usage"], dict[str, object]) | {"tier": {"n": [1]}}
    body = answer.body | {"container": {"id": "c", "at": 1.5}, "usage": usage}
    answer = msgspec.structs.replace(answer, body=body)

    async def handler(request: web.Request) -> web.Response:
        if json.loads(await request.read()).get("stream"):
            return web.Response(body=b"".join(events(answer)), content_type="text/event-stream")
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    params = msgspec.json.encode(asked)
    async with serving(handler) as url, MessagesClient(settings(url)) as client:
        streamed, plain = await client.send(params), await client.send(params)
    assert isinstance(streamed, Reply)
    assert isinstance(plain, Reply)
    assert streamed.headers["content-type"] != plain.headers["content-type"]
    found, expected = decode_fields(streamed.body), decode_fields(plain.body)
    assert {n: bytes(v) for n, v in found.items()} == {n: bytes(v) for n, v in expected.items()}
    assert list(found) == list(expected)
