"""Answers that most servers never give."""

from __future__ import annotations

from nightmill_worker.messages.outcome import Broken, Reply
from tests.worker.http.servers import (
    Reader,
    Writer,
    answers,
    client,
    request_of,
    sent,
    serving,
)
from tests.worker.messages.endpoint import PARAMS

SPACES = b"HTTP/1.1 200 OK\r\nrequest-id: a \t\r\ncontent-length : 12 \t\r\n\r\n"
BODY = b'{"ok": true}'
SWITCHING = b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"


async def test_spaces_after_a_name_or_a_value_are_no_part_of_it() -> None:
    """A request id with a space is not found in the logs of the endpoint."""
    async with serving(answers(SPACES + BODY)) as server:
        reply = await sent(f"http://127.0.0.1:{server.port}")
    assert isinstance(reply, Reply)
    assert (reply.headers["request-id"], reply.headers["content-length"]) == ("a", "12")
    assert reply.body == BODY


async def test_a_body_whose_length_is_named_with_a_space_does_not_end_with_the_connection() -> None:
    """It was cut."""

    async def serve(reader: Reader, writer: Writer) -> None:
        await request_of(reader)
        writer.write(SPACES + BODY[:-1])
        await writer.drain()

    async with serving(serve) as server:
        reply = await sent(f"http://127.0.0.1:{server.port}")
    assert isinstance(reply, Broken)
    assert reply.kind == "truncated_response"


async def test_a_connection_that_changes_its_protocol_is_not_used_again() -> None:
    """What follows 101 is no HTTP."""
    async with (
        serving(answers(SWITCHING)) as server,
        client(f"http://127.0.0.1:{server.port}") as calls,
    ):
        for _ in range(2):
            reply = await calls.send(PARAMS)
            assert isinstance(reply, Reply)
            assert reply.status == 101
        assert len(server.writers) == 2
