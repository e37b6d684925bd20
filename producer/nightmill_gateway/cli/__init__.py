"""The commands that the gateway adds to `nightmill`: serve, keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nightmill.cli.extras import when_installed

if TYPE_CHECKING:
    from collections.abc import Callable

    import typer

LIBRARIES: Final = ("aiohttp", "sqlalchemy")
"""What the gateway extra brings. The base install has our code, and none of these."""
MISSING: Final = "the gateway is not installed here: pip install 'nightmill[gateway]'"


def _when_installed(command: Callable[..., None]) -> Callable[..., None]:
    return when_installed(command, LIBRARIES, MISSING)


def register(app: typer.Typer) -> None:
    """Add the gateway's commands to `app`; the entry point `nightmill.commands` names this."""
    import typer  # noqa: PLC0415 - only when a command line is built

    from nightmill_gateway.cli import keys  # noqa: PLC0415
    from nightmill_gateway.cli.serve import serve  # noqa: PLC0415

    app.command()(_when_installed(serve))
    group = typer.Typer(name="keys", no_args_is_help=True, help=keys.__doc__, rich_markup_mode=None)
    for command in (keys.create, keys.list_, keys.adjust, keys.revoke):
        group.command(command.__name__.rstrip("_"))(_when_installed(command))
    app.add_typer(group)
