"""The one way of commands to the terminal: what would control it is shown as text.

Ids, answers, errors and file names come from outside, so no command prints by another way. Tables
and progress lines go through the console of console.py.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import typer

from nightmill.safety.visible import visible, visible_json

if TYPE_CHECKING:
    from nightmill.safety.redaction import Secrets


def echo(text: str, *, err: bool = False, newline: bool = True) -> None:
    """Print a text for a person on stdout, or with `err` on stderr.

    It may quote a server or a row, so the credentials of the environment are hidden in it.
    """
    typer.echo(visible(_secrets().hidden(text)), err=err, nl=newline)


def echo_data(text: str) -> None:
    """Print a text that consists of the user's own data on stdout."""
    typer.echo(visible(text))


def echo_json(data: bytes) -> None:
    """Print JSON for a program on stdout. It stays the same value."""
    typer.echo(visible_json(data.decode()))


@cache
def _secrets() -> Secrets:
    from nightmill.safety.redaction import Secrets  # noqa: PLC0415 - `--help` stays fast

    return Secrets.of_environment()
