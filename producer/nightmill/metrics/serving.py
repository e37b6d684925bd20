"""The server of /metrics, for one command and all its processes.

Each process counts in files of its own (prometheus_client's multiprocess mode), and the process
that serves adds them up. Files of processes that have ended stay until the command ends, so that no
counter goes back when a process dies.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from nightmill.errors import ServerError
from nightmill.queue.connection import connect
from nightmill.safety.logger import libraries_logged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nightmill.settings import Settings

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which prometheus_client finds the files. It reads it when it is imported."""
LAST_SCRAPE_S: Final = 6.0
"""Longest time that the end of a command waits for a scrape, seconds."""


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
        stack.enter_context(libraries_logged(settings))
        redis = await stack.enter_async_context(aclosing(connect(settings)))
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415

        from nightmill.metrics.fleet import FleetCollector  # noqa: PLC0415 - see above
        from nightmill.metrics.processes import ProcessesCollector  # noqa: PLC0415

        registry = CollectorRegistry()
        registry.register(ProcessesCollector(os.environ[FOLDER]))
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
        answering = threading.Lock()
        application = server.get_app()

        def answer(environ: Any, start: Any) -> Any:  # noqa: ANN401 - as WSGI has them
            with answering:
                return application(environ, start)  # type: ignore[misc] # there is one

        server.set_app(answer)
        # A scrape under way ends before the files are removed. Its thread would outlive a client
        # that sends nothing, so the threads themselves are not waited for.
        stack.push_async_callback(asyncio.to_thread, answering.acquire, timeout=LAST_SCRAPE_S)
        stack.push_async_callback(asyncio.to_thread, thread.join)
        stack.callback(server.socket.close)
        stack.push_async_callback(asyncio.to_thread, server.shutdown)
        yield


def process_ended(pid: int) -> None:
    """Note that a process has ended: its gauges of living processes count no more."""
    if counting():
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

        mark_process_dead(pid)  # type: ignore[no-untyped-call]
