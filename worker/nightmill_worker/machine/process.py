"""One worker process: `python -m nightmill_worker.machine.process`, settings from the environment.

The supervisor holds the other end of its standard input: when that closes, or on SIGTERM or
SIGINT, the process drains and exits; a second signal ends it at once, giving its jobs back.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import stat
import sys
from typing import TYPE_CHECKING

import uvloop

from nightmill.errors import NightmillError, StoreUnavailableError
from nightmill.queue.connection import connect
from nightmill.settings import load_settings
from nightmill.store import ResultStore
from nightmill_worker.events import Event, Events, RedisAway
from nightmill_worker.fleet.worker import FleetWorker
from nightmill_worker.logs import log_events
from nightmill_worker.machine.embedded import embedded_server
from nightmill_worker.machine.supervisor import STORE_AWAY, UNUSABLE
from nightmill_worker.messages.client import MessagesClient

if TYPE_CHECKING:
    from nightmill.settings import Settings

STDIN = 0
GC_THRESHOLDS = (10_000, 50, 100)
SPARE_FILES = 256
"""Descriptors beside one a call in flight: Redis, the store, logs."""


def main() -> int:
    """Run until told to stop; returns the exit code.

    STORE_AWAY, UNUSABLE (settings or server), or 0.
    """
    try:
        settings = load_settings()
        with contextlib.ExitStack() as servers:
            if settings.redis_url is None:
                url = servers.enter_context(embedded_server(settings.data_dir))
                uvloop.run(_work(settings.model_copy(update={"redis_url": url}), servers))
            else:
                uvloop.run(_work(settings, None))
    except NightmillError as error:
        sys.stderr.write(f"error: {error}\n")
        return STORE_AWAY if isinstance(error, StoreUnavailableError) else UNUSABLE
    return 0


async def _work(settings: Settings, servers: contextlib.ExitStack | None) -> None:
    _raise_file_limit(settings.max_in_flight + SPARE_FILES)
    events = Events()
    events.subscribe(log_events(settings))
    redis = connect(settings)
    async with (
        contextlib.aclosing(redis),
        ResultStore.open(settings.store_at) as store,
        MessagesClient(settings) as client,
    ):
        worker = FleetWorker(settings, redis, store, client, events=events)
        if servers is not None:
            events.subscribe(_Reviver(settings, servers).listen)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.handle_sig, number)
        if _has_parent():
            loop.add_reader(STDIN, _parent_gone, worker)
        _calm_garbage_collector()
        await worker.main()


def _calm_garbage_collector() -> None:
    """Look for cycles seldom: a thousand calls in flight are many young objects, none of them one.

    What start-up made is never looked at again. A third of the CPU of a job (benchmarks `cpu`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _has_parent() -> bool:
    """Tell whether standard input is a pipe to somebody: not a terminal, a file or nothing."""
    try:
        mode = os.fstat(STDIN).st_mode
    except OSError:  # closed
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _parent_gone(worker: FleetWorker) -> None:
    """Stop: the supervisor never writes, so readable means closed."""
    asyncio.get_running_loop().remove_reader(STDIN)
    worker.stop()


def _raise_file_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class _Reviver:
    """Starts the embedded server again when it died under us (kill -9, out of memory)."""

    def __init__(self, settings: Settings, servers: contextlib.ExitStack) -> None:
        self._settings = settings
        self._servers = servers
        self._task: asyncio.Task[str] | None = None

    def listen(self, event: Event) -> None:
        if isinstance(event, RedisAway) and (self._task is None or self._task.done()):
            enter = self._servers.enter_context
            server = embedded_server(self._settings.data_dir)
            self._task = asyncio.ensure_future(asyncio.to_thread(enter, server))


if __name__ == "__main__":
    sys.exit(main())
