"""The server of /metrics, for one command and all its processes.

Each process counts in files of its own (prometheus_client's multiprocess mode), and the process
that serves adds them up. Files of processes that have ended stay until the command ends, so that no
counter goes back when a process dies.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from nightmill.errors import ServerError
from nightmill.queue.connection import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nightmill.settings import Settings

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which prometheus_client finds the files. It reads it when it is imported."""


def variables() -> dict[str, str]:
    """Return the variables that make a child process count for this command; {} when it is off."""
    folder = os.environ.get(FOLDER)
    return {FOLDER: folder} if folder else {}


def counting() -> bool:
    """Tell whether this process counts."""
    return FOLDER in os.environ


@asynccontextmanager
async def metrics_served(settings: Settings, port: int | None, host: str) -> AsyncIterator[None]:
    """Serve /metrics for the length of the block; do nothing, and import nothing, without a port.

    Raises ServerError when the address cannot be used.
    """
    if port is None:
        yield
        return
    async with AsyncExitStack() as stack:
        os.environ[FOLDER] = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="nightmill-metrics-", ignore_cleanup_errors=True)
        )
        stack.callback(os.environ.pop, FOLDER, None)
        redis = await stack.enter_async_context(aclosing(connect(settings)))
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

        from nightmill.metrics.fleet import FleetCollector  # noqa: PLC0415 - see above

        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        registry.register(
            FleetCollector(redis, settings.data_dir / "spool", asyncio.get_running_loop())
        )
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            reason = error.strerror or error
            raise ServerError(
                f"metrics: cannot listen on {host}:{port}: {reason}; choose another port"
            ) from None
        # A scrape under way ends before the files are removed.
        server.daemon_threads = False  # type: ignore[attr-defined] # it is a ThreadingMixIn
        stack.push_async_callback(asyncio.to_thread, server.server_close)
        stack.push_async_callback(asyncio.to_thread, thread.join)
        stack.callback(server.shutdown)
        yield


def process_ended(pid: int) -> None:
    """Note that a process has ended: its gauges of living processes count no more."""
    if counting():
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

        mark_process_dead(pid)  # type: ignore[no-untyped-call]
