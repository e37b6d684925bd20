"""The log of the gateway: what an operator must know, on stderr."""

from __future__ import annotations

import sys
import traceback

from nightmill.safety.redaction import Secrets
from nightmill.safety.visible import visible


def report(where: str, error: BaseException) -> None:
    """Write a defect with its place; `where` is a request's id, or names a loop."""
    trace = "".join(traceback.format_tb(error.__traceback__))
    text = f"{where}: {type(error).__name__}: {error}\n{trace}"
    sys.stderr.write(visible(Secrets.of_environment().hidden(text)))
    sys.stderr.flush()


def note(text: str) -> None:
    """Write a line."""
    sys.stderr.write(visible(f"{text}\n"))
    sys.stderr.flush()
