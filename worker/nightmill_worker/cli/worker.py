"""`nightmill worker`: run worker processes until they are stopped."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli.terminal import echo
from nightmill.errors import SettingsError

if TYPE_CHECKING:
    from nightmill.settings import Settings

NO_CREDENTIAL = (
    "no credential: set NIGHTMILL_API_KEY (or ANTHROPIC_API_KEY), or NIGHTMILL_AUTH_TOKEN for a "
    "Bearer token"
)


UNHEALTHY: Final = 1
UNCLEAN: Final = 1
"""Exit code when a worker did not stop cleanly: perhaps its answers are lost."""


def worker(
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
    redis_url: Annotated[
        str | None, typer.Option(help="Redis URL. Default: the embedded Valkey.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Endpoint, with or without /v1.")] = None,
    *,
    healthcheck: Annotated[
        bool,
        typer.Option(
            "--healthcheck", help="Say whether the workers of this machine and DATA_DIR live; end."
        ),
    ] = False,
) -> None:
    """Claim jobs, call the endpoint and store the answers.

    It runs until Ctrl-C or SIGTERM. The first signal lets calls in flight finish, for
    NIGHTMILL_GRACE_S seconds at most. A second one gives their jobs back at once. No job is lost. A
    worker process that dies is started again.

    --healthcheck is for containers: it looks whether the event loops of the workers and of their
    supervisor go on, and uses neither Redis nor the endpoint. It exits with 0 or 1.

    Exit codes: 0 stopped, 1 stopped but answers could not be saved or a worker had to be ended, 2
    bad settings, or workers die as soon as they start.

    For example:

    nightmill worker --processes 4

    NIGHTMILL_RPM=600 nightmill worker --redis-url redis://localhost:6379
    """
    if healthcheck:
        _check_health()
        return
    from nightmill.settings import load_settings  # noqa: PLC0415 - `--help` stays fast
    from nightmill_worker.cli.places import require_places  # noqa: PLC0415

    settings = load_settings(redis_url=redis_url, base_url=base_url)
    if not settings.has_credential:
        raise SettingsError(NO_CREDENTIAL)
    require_places(settings)
    unclean = asyncio.run(_supervise(settings, processes))
    for ended in unclean:
        echo(f"a worker did not stop cleanly: {ended}", err=True)
    if unclean:
        raise typer.Exit(UNCLEAN)


def _check_health() -> None:
    """Say whether the workers live. It runs every few seconds, so it reads one setting alone."""
    from nightmill.setting_sources import one_setting  # noqa: PLC0415
    from nightmill_worker.machine.pulse import check  # noqa: PLC0415

    problem = check(Path(one_setting("data_dir", os.environ) or ".nightmill"))
    echo(f"unhealthy: {problem}" if problem else "healthy", err=bool(problem))
    if problem:
        raise typer.Exit(UNHEALTHY)


async def _supervise(settings: Settings, processes: int) -> list[str]:
    """Run workers until they are stopped; return how those ended that did not stop cleanly."""
    from nightmill_worker.cli.redis_rights import warnings  # noqa: PLC0415
    from nightmill_worker.machine.pulse import beating  # noqa: PLC0415
    from nightmill_worker.machine.serving import serving_redis  # noqa: PLC0415
    from nightmill_worker.machine.signals import StopSignals  # noqa: PLC0415
    from nightmill_worker.machine.supervisor import Supervisor  # noqa: PLC0415

    async with beating(settings.data_dir, "supervisor"), serving_redis(settings) as served:
        for warning in await warnings(served):
            echo(warning, err=True)
        supervisor = Supervisor(settings, processes)
        StopSignals(
            supervisor.stop, lambda: supervisor.stop(at_once=True), grace_s=settings.grace_s
        ).install()
        await supervisor.run()
    return supervisor.unclean
