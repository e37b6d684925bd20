"""One of several gateway processes: `python -m nightmill_gateway.process FD...`.

Its settings are in the environment, and the listening sockets are the descriptors FD. It stops when
its standard input ends: its supervisor is gone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Final

from nightmill.errors import NightmillError
from nightmill.safety.redaction import Secrets
from nightmill.safety.streams import guard_streams
from nightmill.safety.visible import visible
from nightmill.settings import settings_from_parent
from nightmill_gateway.running import Stop, new_loop, serve

if TYPE_CHECKING:
    from nightmill_gateway.access.caller import Access

INSECURE: Final = "--insecure"
UNUSABLE: Final = 2
"""Exit code of a process that cannot run with its settings."""
READY: Final = b"ready\n"
"""What it writes to standard output once it takes requests."""


def main(args: list[str]) -> int:
    """Run until stopped; return the exit code."""
    guard_streams()
    secrets = Secrets.of_environment()
    try:
        sockets = [socket.socket(fileno=int(each)) for each in args if each != INSECURE]
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_run(sockets, insecure=INSECURE in args))
    except NightmillError as error:
        sys.stderr.write(visible(secrets.hidden(f"error: {error}\n")))
        return UNUSABLE
    return 0


async def _run(sockets: list[socket.socket], *, insecure: bool) -> None:
    stop = Stop()
    loop = asyncio.get_running_loop()

    def watch() -> None:
        """Wait for the end of standard input, which only the supervisor holds."""
        while os.read(0, 1):
            pass
        loop.call_soon_threadsafe(stop.ask)

    threading.Thread(target=watch, daemon=True).start()
    await serve(settings_from_parent(), sockets, stop, insecure=insecure, ready=_ready)


async def _ready(_: Access) -> None:
    os.write(1, READY)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
