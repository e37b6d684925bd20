"""`nightmill simulate`: pass the arguments to the simulator's own command."""

from __future__ import annotations

import typer


def simulate(context: typer.Context) -> None:
    """Play the Messages endpoint, to rehearse without paying."""
    from nightmill_worker.simulator import command  # noqa: PLC0415 - only this command needs it

    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(command.simulate)
    app(context.args, prog_name=context.command_path)
