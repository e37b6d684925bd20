"""The Redis of a command that runs workers: the embedded server is started again when it dies."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.errors import ServerError
from nightmill.queue.locate import sigterm_as_ctrl_c, with_redis
from nightmill.queue.patience import waits
from nightmill.safety.visible import visible
from nightmill_worker.jobs.tasks import end_tasks
from nightmill_worker.machine.embedded import restart_if_dead

if TYPE_CHECKING:
    from nightmill.settings import Settings

LOOK_S: Final = 0.2
"""Between two looks whether the server runs, seconds."""
RESTART_S: Final = (0.2, 10.0)
"""First and longest wait after a start, doubled while the server dies soon; seconds."""
STEADY_S: Final = 60.0
"""A server that ran for so long has not died soon, seconds."""


@contextmanager
def early_redis(settings: Settings) -> Iterator[Future[Settings]]:
    """Yield what will be `settings` with a `redis_url`; the embedded server starts in a thread.

    The future raises what `with_redis` raises.
    """
    with sigterm_as_ctrl_c(), ExitStack() as servers, ThreadPoolExecutor(1) as threads:
        starting = threads.submit(servers.enter_context, with_redis(settings))
        yield starting


@asynccontextmanager
async def serving_redis(
    settings: Settings, early: Future[Settings] | None = None
) -> AsyncIterator[Settings]:
    """Yield `settings` with a `redis_url`; keep the embedded server running, if that is used.

    The server may have been started `early`, for these settings or with the same DATA_DIR.

    Only the process that supervises workers does this: a worker that outlives it must not start a
    server that nobody stops. Raises what `with_redis` raises.
    """
    with ExitStack() as servers:
        if early is None:
            served = servers.enter_context(with_redis(settings))
        else:
            redis_url = (await asyncio.wrap_future(early)).redis_url
            served = settings.model_copy(update={"redis_url": redis_url})
        if settings.redis_url:
            yield served
            return
        keeping = asyncio.create_task(_keep_running(settings.data_dir))
        try:
            yield served
        finally:
            await end_tasks(keeping)


async def _keep_running(data_dir: Path) -> None:
    """Start the server again whenever its process is gone, until cancelled."""
    pauses, started, problem = waits(*RESTART_S), time.monotonic(), ""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            died = await asyncio.to_thread(restart_if_dead, data_dir)
        except ServerError as error:
            died, text = True, str(error)
            if text != problem:
                _print(f"the embedded Valkey died and does not start: {text}")
            problem = text
        else:
            problem = ""
            if died:
                _print("the embedded Valkey died; it was started again")
        if died:
            now = time.monotonic()
            if now - started > STEADY_S:
                pauses = waits(*RESTART_S)
            started = now
            await asyncio.sleep(next(pauses))


def _print(text: str) -> None:
    sys.stderr.write(visible(f"{text}\n"))
    sys.stderr.flush()
