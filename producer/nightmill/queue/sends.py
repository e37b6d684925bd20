"""Sends to Redis that a cancellation always ends, on connections that are looked at first.

redis-py sends within `asyncio.wait_for`, which on Python 3.11 returns normally when a cancellation
arrives just as the send ends (python/cpython#86296). The task then goes on, and who has cancelled
it waits without end. `asyncio.timeout` has no such gap, and needs no task for each send.

Before each command redis-py looks whether its connection has data, or is closed: by a read with a
timeout of 0 s, which an exception ends two rounds of the event loop later. What has arrived is
known without a read. A worker of a wide fleet sends a command for every second job.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis import exceptions

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Sends:
    """What redis-py's connections do before and in a send, in another way."""

    socket_timeout: float | None
    is_connected: bool
    connect: Any
    check_health: Any
    disconnect: Any
    _send_packed_command: Any
    _reader: asyncio.StreamReader | None
    _parser: Any
    _socket_is_empty: Any

    async def can_read_destructive(self) -> bool:
        """Return whether there is data that no command asked for.

        Raises ConnectionError of redis-py when the server has closed the connection.
        """
        reader = self._reader
        if reader is None or reader.at_eof() or reader.exception() is not None:
            raise exceptions.ConnectionError("Connection closed by server.")
        return not self._socket_is_empty() or self._parser._reader.has_data()  # noqa: SLF001 - hiredis

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,  # noqa: FBT001, FBT002 - redis-py's
    ) -> None:
        """Send a command. Raises ConnectionError and TimeoutError of redis-py."""
        if not self.is_connected:
            await self.connect()
        elif check_health:
            await self.check_health()
        if isinstance(command, str):
            command = command.encode()
        parts = [command] if isinstance(command, bytes) else command
        try:
            async with asyncio.timeout(self.socket_timeout):
                await self._send_packed_command(parts)
        except BaseException as error:
            # A command of which a part was sent makes the connection useless.
            await self.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise exceptions.TimeoutError("Timeout writing to socket") from None
            if isinstance(error, OSError):
                number = error.errno or "UNKNOWN"  # asyncio's own errors have neither
                text = f"Error {number} while writing to socket. {error.strerror or error}."
                raise exceptions.ConnectionError(text) from error
            raise


def cancellable(kind: Any) -> Any:  # noqa: ANN401 - classes
    """Return redis-py's class of connections with these sends."""
    return type(f"Cancellable{kind.__name__}", (_Sends, kind), {})
