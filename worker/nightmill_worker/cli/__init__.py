"""The commands that the worker package adds to `nightmill`: run, worker, doctor, simulate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import typer

PASS_ON: Final = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "help_option_names": [],
}
"""Context settings of a command that parses its arguments itself."""


def register(app: typer.Typer) -> None:
    """Add the worker's commands to `app`; the entry point `nightmill.commands` names this."""
    from nightmill_worker.cli.doctor import doctor  # noqa: PLC0415 - only when typer is there
    from nightmill_worker.cli.run import run  # noqa: PLC0415
    from nightmill_worker.cli.simulate import simulate  # noqa: PLC0415
    from nightmill_worker.cli.worker import worker  # noqa: PLC0415

    for command in (run, worker, doctor):
        app.command()(command)
    app.command(context_settings=PASS_ON)(simulate)
