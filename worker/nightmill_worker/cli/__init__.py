"""The commands the worker adds to `nightmill`: run, worker, doctor, simulate."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def register(app: typer.Typer) -> None:
    """Add the worker's commands to `app`; called through the `nightmill.commands` entry points."""
    from nightmill_worker.cli.doctor import doctor  # noqa: PLC0415 - `--help` stays fast
    from nightmill_worker.cli.run import run  # noqa: PLC0415
    from nightmill_worker.cli.worker import worker  # noqa: PLC0415
    from nightmill_worker.simulator.command import simulate  # noqa: PLC0415

    for command in (run, worker, doctor, simulate):
        app.command()(command)
