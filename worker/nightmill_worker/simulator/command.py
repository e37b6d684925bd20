"""`nightmill simulate`: the simulated endpoint as a command."""

import asyncio
import inspect
import signal
from typing import Annotated

import typer
import uvloop

from nightmill.cli.console import VisibleConsole
from nightmill_worker.simulator.config import ConfigError, SimulatorConfig
from nightmill_worker.simulator.options import config_from_options, config_parameters
from nightmill_worker.simulator.server import Simulator

BAD_USAGE = 2
DEFAULT_PORT = 8399
ANY_KEY = "any-key"
_out = VisibleConsole(soft_wrap=True)
_err = VisibleConsole(stderr=True, soft_wrap=True)


def simulate(host: str, port: int, **options: object) -> None:
    """Simulate the Messages endpoint, to rehearse a run without paying for it.

    For example:

    nightmill simulate --latency 1 --jitter 0.3

    nightmill simulate --rpm 600 --burst 10 --otpm 80000 --no-headers

    nightmill simulate --fail 529:0.05 --fail 500:0.01 --stall 0.01:30 --sse-error 0.02

    nightmill simulate --stop max_tokens:0.1 --stop pause_turn:0.05 --stop refusal:0.02

    While it runs: GET /admin/stats, GET /admin/calls, POST /admin/reset, and POST /admin/config
    with the settings to change, such as {"rpm": 300}.
    """
    try:
        config = config_from_options(options)
    except ConfigError as error:
        _err.print(f"simulate: {error}")
        raise typer.Exit(BAD_USAGE) from error
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(config, host, port))


def _typer_signature() -> inspect.Signature:
    """Return the signature that typer reads the options from: host, port, the config's fields."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    host = Annotated[str, typer.Option(help="Address to listen on.")]
    port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")]
    own = [
        inspect.Parameter("host", keyword, default="127.0.0.1", annotation=host),
        inspect.Parameter("port", keyword, default=DEFAULT_PORT, annotation=port),
    ]
    return inspect.Signature([*own, *config_parameters()])


simulate.__signature__ = _typer_signature()  # type: ignore[attr-defined]
# typer would read these instead of the signature, and they lack the options.
simulate.__annotations__ = {}


async def _run(config: SimulatorConfig, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM, then print the counts."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Simulator(config, host=host, port=port) as simulator:
            _print_address(simulator)
            await stop.wait()
    except OSError as error:
        reason = error.strerror or error
        _err.print(f"simulate: cannot listen on {host}:{port}: {reason}; choose another --port")
        raise typer.Exit(BAD_USAGE) from error
    _print_counts(simulator)


def _print_address(simulator: Simulator) -> None:
    key = simulator.config.auth or ANY_KEY
    _out.print(f"Simulated Messages endpoint at {simulator.url} (Ctrl-C stops it). Point at it:")
    _out.print(f"  export NIGHTMILL_BASE_URL={simulator.url} NIGHTMILL_API_KEY={key}")


def _print_counts(simulator: Simulator) -> None:
    totals, ledger = simulator.ledger.totals, simulator.ledger
    _out.print(
        f"\n{totals.calls} calls of {len(ledger.prompts)} prompts: {totals.answered} answered, "
        f"{totals.refused} refused (429), {totals.failed} failed, {totals.abandoned} abandoned; "
        f"{ledger.answered_more_than_once} prompts answered more than once; "
        f"{ledger.answered_per_s():.1f} answers/s."
    )
