"""Sends to Redis that a cancellation always ends.

redis-py sends within `asyncio.wait_for`, which on Python 3.11 returns normally when a cancellation
arrives just as the send ends (python/cpython#86296). The task then goes on, and who has cancelled
it waits without end. `asyncio.timeout` has no such gap, and needs no task for each send.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis import exceptions

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Sends:
    """`send_packed_command` of redis-py's connections, with another clock."""

    socket_timeout: float | None
    is_connected: bool
    connect: Any
    check_health: Any
    disconnect: Any
    _send_packed_command: Any

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
