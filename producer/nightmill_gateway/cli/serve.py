"""`nightmill serve`: the Messages API over nightmill's queue, limiter and results store."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options
from nightmill.cli.terminal import echo
from nightmill.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nightmill.settings import Settings
    from nightmill_gateway.access.caller import Access

NO_KEY = "no key yet, so every request is refused: make one with nightmill keys create NAME"


def serve(  # noqa: PLR0913 - each option of the command
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8480,
    *,
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that share the port. Each uses one core.")
    ] = 1,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Ask for no key. Only for an address of this machine."),
    ] = False,
    healthcheck: Annotated[
        bool,
        typer.Option("--healthcheck", help="Say whether a gateway answers at HOST and PORT; end."),
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port of /metrics, at NIGHTMILL_METRICS_HOST. None: not served."
        ),
    ] = None,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Serve the HTTP API, until Ctrl-C or SIGTERM.

    It calls no endpoint itself: workers do. Any number of gateways may share one Redis and one
    results store. A request needs a key of `nightmill keys create`. TLS is the part of a proxy
    in front. At the end, requests have NIGHTMILL_GRACE_S seconds to finish, and /readyz answers
    503. A process that dies is started again.

    --healthcheck is for containers: it asks GET /healthz once and exits with 0 or 1.

    Exit codes: 0 stopped, 2 bad settings, or the address is in use.

    For example:

    nightmill serve --insecure

    nightmill serve --host 0.0.0.0 --redis-url redis://localhost:6379
    """
    if healthcheck:
        _check_health(host, port)
        return
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415
    from nightmill_gateway.access.caller import LOOPBACK  # noqa: PLC0415
    from nightmill_gateway.running import new_loop  # noqa: PLC0415

    if insecure and host not in LOOPBACK:
        raise SettingsError(
            f"--insecure: given --host {host}; allowed: {', '.join(sorted(LOOPBACK))}; for another "
            "address make keys: nightmill keys create NAME"
        )
    loaded = load_settings(redis_url=redis_url, store_url=store_url, data_dir=data_dir)
    with with_redis(loaded) as settings, asyncio.Runner(loop_factory=new_loop) as runner:
        serving = partial(_serve, settings, host, port, processes, insecure=insecure)
        runner.run(_with_metrics(settings, metrics_port, serving))


async def _with_metrics(
    settings: Settings, port: int | None, serving: Callable[[], Awaitable[None]]
) -> None:
    from nightmill.metrics.serving import metrics_served  # noqa: PLC0415

    async with metrics_served(settings, port, settings.metrics_host):
        await serving()


def _check_health(host: str, port: int) -> None:
    """Say whether a gateway answers. Raises Exit when none does."""
    from nightmill_gateway.cli.health import check  # noqa: PLC0415

    problem = check(host, port)
    echo(f"unhealthy: {problem}" if problem else "healthy", err=bool(problem))
    if problem:
        raise typer.Exit(1)


async def _serve(settings: Settings, host: str, port: int, processes: int, **options: bool) -> None:
    from nightmill_gateway.processes import Processes  # noqa: PLC0415
    from nightmill_gateway.running import Stop, access_of, serve  # noqa: PLC0415
    from nightmill_gateway.server import bind, url_of  # noqa: PLC0415
    from nightmill_gateway.services import open_services  # noqa: PLC0415

    insecure = options["insecure"]
    sockets = bind(host, port)
    url = url_of(host, sockets)

    async def ready(access: Access) -> None:
        if not await access.any():
            echo(NO_KEY, err=True)
        key = "any" if insecure else "<a key of: nightmill keys create NAME>"
        echo(f"nightmill serves the Messages API at {url} (Ctrl-C stops it). Point at it:")
        echo(f"  export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY={key}")

    stop = Stop()
    if processes == 1:
        await serve(settings, sockets, stop, insecure=insecure, ready=ready)
        return
    async with open_services(settings) as services:  # what is wrong is said once
        access = await access_of(services, insecure=insecure)
        await Processes(settings, sockets, processes, insecure=insecure).run(
            stop, lambda: ready(access)
        )
