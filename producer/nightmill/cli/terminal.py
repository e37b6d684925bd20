"""The one way of commands to the terminal: what would control it is shown as text.

Ids, answers, errors and file names come from outside, so no command prints by another way. Tables
and progress lines go through the console of console.py.
"""

from __future__ import annotations

import codecs
import sys
from functools import cache
from typing import TYPE_CHECKING

from nightmill.safety.streams import escape
from nightmill.safety.visible import visible, visible_json

if TYPE_CHECKING:
    from typing import TextIO

    from nightmill.safety.redaction import Secrets


def echo(text: str, *, err: bool = False, newline: bool = True) -> None:
    """Print a text for a person on stdout, or with `err` on stderr.

    It may quote a server or a row, so the credentials of the environment are hidden in it.
    """
    end = "\n" if newline else ""
    _print(sys.stderr if err else sys.stdout, shown(text) + end)


def shown(text: str) -> str:
    """Return a text for a person, without credentials and controls: see `echo`."""
    return visible(_secrets().hidden(text))


def echo_data(text: str) -> None:
    """Print a text that consists of the user's own data on stdout."""
    _print(sys.stdout, f"{visible(text)}\n")


def echo_json(data: bytes) -> None:
    """Print JSON for a program on stdout. It stays the same value."""
    text = visible_json(data.decode())
    if not text.isascii() and codecs.lookup(sys.stdout.encoding).name != "utf-8":
        text = "".join(each if each.isascii() else escape(each) for each in text)
    _print(sys.stdout, f"{text}\n")


def _print(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()


@cache
def _secrets() -> Secrets:
    from nightmill.safety.redaction import Secrets  # noqa: PLC0415 - `--help` stays fast

    return Secrets.of_environment()
