"""Logs: one structured line an event, to stderr; JSON or for people. Never a credential."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from nightmill_worker import events

if TYPE_CHECKING:
    from nightmill.settings import Settings
    from nightmill_worker.events import Emit, Event

# One job's own affairs are debug: a million of them must not cost more than their calls.
LEVELS: Final[dict[type[Event], int]] = {
    events.JobsFinished: logging.DEBUG,
    events.CallRefused: logging.DEBUG,
    events.CallFailed: logging.INFO,
    events.AccountStopped: logging.ERROR,
    events.LeaseLost: logging.WARNING,
    events.FinishRefused: logging.WARNING,
    events.JobQuarantined: logging.ERROR,
    events.RedisAway: logging.WARNING,
    events.StoreAway: logging.ERROR,
    events.SpoolFailed: logging.ERROR,
    events.SpoolDamaged: logging.ERROR,
    events.ModelUnpriced: logging.WARNING,
    events.WebhookFailed: logging.WARNING,
}


def log_events(settings: Settings) -> Emit:
    """Return a listener that logs events from LOG_LEVEL on, in LOG_FORMAT."""
    least = logging.getLevelNamesMapping()[settings.log_level.upper()]
    pretty = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    render = structlog.processors.JSONRenderer() if settings.log_format == "json" else pretty
    log = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
    )

    def listen(event: Event) -> None:
        level = LEVELS.get(type(event), logging.INFO)
        if level >= least:
            name = logging.getLevelName(level).lower()
            getattr(log, name)(_words(type(event).__name__), **msgspec.structs.asdict(event))

    return listen


def _words(name: str) -> str:
    """Turn an event's name into words: AccountStopped -> line stopped."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()
