"""`nightmill worker`: run worker processes until told to stop."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.errors import SettingsError

if TYPE_CHECKING:
    from nightmill.settings import Settings

NO_CREDENTIAL = (
    "no credential: set NIGHTMILL_API_KEY (or ANTHROPIC_API_KEY), or NIGHTMILL_AUTH_TOKEN for a "
    "Bearer token"
)


def worker(
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
    redis_url: Annotated[str | None, typer.Option(help="Redis; none: the embedded Valkey.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Endpoint, with or without /v1.")] = None,
) -> None:
    """Claim jobs, call the endpoint, store the results; until Ctrl-C or SIGTERM.

    The first signal lets calls under way finish (NIGHTMILL_GRACE_S), a second one gives them back
    at once; no job is lost either way. A worker process that dies is started again.

    For example:

    nightmill worker --processes 4

    NIGHTMILL_RPM=600 nightmill worker --redis-url redis://localhost:6379
    """
    from nightmill.settings import load_settings  # noqa: PLC0415 - `--help` stays fast

    settings = load_settings(redis_url=redis_url, base_url=base_url)
    if not settings.has_credential:
        raise SettingsError(NO_CREDENTIAL)
    asyncio.run(_supervise(settings, processes))


async def _supervise(settings: Settings, processes: int) -> None:
    from nightmill_worker.machine.supervisor import Supervisor  # noqa: PLC0415

    supervisor = Supervisor(settings, processes)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, supervisor.stop)
    await supervisor.run()
