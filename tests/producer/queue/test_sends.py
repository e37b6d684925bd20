"""A task that waits for Redis can be cancelled at any moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis import exceptions

from nightmill.queue.connection import connect
from nightmill.settings import load_settings
from tests.rig import until

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.mark.parametrize("iterations", range(4))
async def test_a_cancellation_as_a_send_ends_is_kept(redis_url: str, iterations: int) -> None:
    """`asyncio.wait_for` of Python 3.11 loses it: a gateway's stop waited without end."""
    client = connect(load_settings(redis_url=redis_url))
    connection = await client.connection_pool.get_connection()
    sent = asyncio.get_running_loop().create_future()

    async def send(_: Iterable[bytes]) -> None:
        await sent

    connection._send_packed_command = send
    task = asyncio.create_task(connection.send_command("PING"))
    await asyncio.sleep(0.01)
    sent.set_result(None)
    for _ in range(iterations):
        await asyncio.sleep(0)
    if task.cancel():
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not connection.is_connected
    await client.connection_pool.release(connection)
    await client.aclose()


async def test_a_send_that_is_stuck_ends_by_its_timeout(redis_url: str) -> None:
    """A server that reads nothing more; the connection is not used again."""
    client = connect(load_settings(redis_url=redis_url))
    connection = await client.connection_pool.get_connection()

    async def stuck(_: Iterable[bytes]) -> None:
        await asyncio.Event().wait()

    connection._send_packed_command = stuck
    connection.socket_timeout = 0.01
    with pytest.raises(exceptions.TimeoutError, match="writing"):
        await connection.send_command("PING")
    assert not connection.is_connected
    await client.connection_pool.release(connection)
    await client.aclose()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BrokenPipeError(32, "Broken pipe"), "Error 32 while writing to socket. Broken pipe."),
        (ConnectionResetError("Connection lost"), "Error UNKNOWN .* Connection lost."),
    ],
)
async def test_a_send_to_a_server_that_has_gone_is_a_connection_error(
    redis_url: str, error: OSError, text: str
) -> None:
    """What redis-py's retries and our waits for Redis are made for."""
    client = connect(load_settings(redis_url=redis_url))
    connection = await client.connection_pool.get_connection()

    async def gone(_: Iterable[bytes]) -> None:
        raise error

    connection._send_packed_command = gone
    with pytest.raises(exceptions.ConnectionError, match=text):
        await connection.send_command("PING")
    assert not connection.is_connected
    await client.connection_pool.release(connection)
    await client.aclose()


@pytest.mark.parametrize("texts", [["old"], ["read", "old"]])
async def test_an_answer_that_nobody_waits_for_is_not_taken_for_another(
    redis_url: str, texts: list[str]
) -> None:
    """A command whose answer was not read; also one that arrived with the answer before it."""
    client = connect(load_settings(redis_url=redis_url))
    connection = await client.connection_pool.get_connection()
    commands = connection.pack_commands([("ECHO", text) for text in texts])
    await connection.send_packed_command(commands)
    await until(lambda: not connection._socket_is_empty())
    for text in texts[:-1]:
        assert await connection.read_response() == text.encode()
    await client.connection_pool.release(connection)
    assert await client.execute_command("ECHO", "new") == b"new"
    await client.aclose()


async def test_a_connection_that_the_server_has_closed_is_made_again(redis_url: str) -> None:
    """A server that was restarted, or a limit of its idle clients: no command may fail by it."""
    client = connect(load_settings(redis_url=redis_url))
    pool = client.connection_pool
    connection = await pool.get_connection()
    await connection.send_command("CLIENT", "ID")
    number = await connection.read_response()
    assert await client.client_kill_filter(_id=number)  # on a connection of its own
    await until(connection._reader.at_eof)
    await pool.release(connection)
    assert await client.execute_command("ECHO", "new") == b"new"
    await client.aclose()


async def test_a_look_at_a_connection_lets_nothing_else_run(redis_url: str) -> None:
    """redis-py's own look ends by an exception, two rounds of the event loop later."""
    client = connect(load_settings(redis_url=redis_url))
    connection = await client.connection_pool.get_connection()
    with pytest.raises(StopIteration) as ended:
        connection.can_read_destructive().send(None)
    assert ended.value.value is False
    await client.connection_pool.release(connection)
    await client.aclose()
