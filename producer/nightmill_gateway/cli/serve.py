"""`nightmill serve`: the Messages API over nightmill's queue, limiter and results store."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options
from nightmill.cli.terminal import echo
from nightmill.errors import SettingsError

if TYPE_CHECKING:
    from nightmill.settings import Settings
    from nightmill_gateway.access.caller import Access
    from nightmill_gateway.services import Services

NO_KEY = "no key yet, so every request is refused: make one with nightmill keys create NAME"


def serve(  # noqa: PLR0913 - each option of the command
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8480,
    *,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Ask for no key. Only for an address of this machine."),
    ] = False,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Serve the HTTP API, until Ctrl-C or SIGTERM.

    It calls no endpoint itself: workers do. Any number of gateways may share one Redis and one
    results store. A request needs a key of `nightmill keys create`. TLS is the part of a proxy
    in front. At the end, requests have NIGHTMILL_GRACE_S seconds to finish.

    Exit codes: 0 stopped, 2 bad settings, or the address is in use.

    For example:

    nightmill serve --insecure

    nightmill serve --host 0.0.0.0 --redis-url redis://localhost:6379
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415
    from nightmill_gateway.access.caller import LOOPBACK  # noqa: PLC0415

    if insecure and host not in LOOPBACK:
        raise SettingsError(
            f"--insecure: given --host {host}; allowed: {', '.join(sorted(LOOPBACK))}; for another "
            "address make keys: nightmill keys create NAME"
        )
    loaded = load_settings(redis_url=redis_url, store_url=store_url, data_dir=data_dir)
    with with_redis(loaded) as settings, asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(_serve(settings, host, port, insecure=insecure))


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _serve(settings: Settings, host: str, port: int, *, insecure: bool) -> None:
    from nightmill_gateway.app import make_app  # noqa: PLC0415
    from nightmill_gateway.server import listening  # noqa: PLC0415
    from nightmill_gateway.services import open_services  # noqa: PLC0415

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with open_services(settings) as services:
        app = make_app(services, await _access(services, insecure=insecure))
        async with listening(app, host, port, grace_s=settings.grace_s) as url:
            echo(f"nightmill serves the Messages API at {url} (Ctrl-C stops it). Point at it:")
            echo(f"  export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY={_key(insecure=insecure)}")
            await stop.wait()


def _key(*, insecure: bool) -> str:
    return "any" if insecure else "<a key of: nightmill keys create NAME>"


async def _access(services: Services, *, insecure: bool) -> Access:
    """Return who may call; warn when nobody can, since there is no key."""
    from nightmill.store.access_keys import AccessKeys  # noqa: PLC0415
    from nightmill_gateway.access.caller import ByKey, OnThisMachine  # noqa: PLC0415

    if insecure:
        return OnThisMachine()
    keys = AccessKeys(services.store)
    if not await keys.all():
        echo(NO_KEY, err=True)
    return ByKey(keys, await keys.secret())
