"""The lines of a log: structlog's, to stderr, as JSON or as text. No line holds a credential."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nightmill.safety.redaction import Secrets
from nightmill.safety.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping
    from types import ModuleType

    from nightmill.settings import Settings


def make_logger(settings: Settings) -> Any:  # noqa: ANN401 - structlog's loggers have no type
    """Return a logger of all levels, in LOG_FORMAT."""
    structlog = load_structlog()
    pretty = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    as_json = settings.log_format == "json"
    return structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            partial(_plain, Secrets.of(settings), str if as_json else visible),
            structlog.processors.JSONRenderer() if as_json else pretty,
        ],
    )


@contextmanager
def libraries_logged(settings: Settings) -> Iterator[None]:
    """Log what libraries warn of, from LOG_LEVEL on, as lines of this log; for this block.

    Python would write their texts to stderr as they are: no JSON, and with credentials of URLs.
    A block within such a block changes nothing.
    """
    handler, root = _ToLog(settings), logging.getLogger()
    if any(isinstance(each, _ToLog) for each in root.handlers):
        yield
        return
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


class _ToLog(logging.Handler):
    """Passes records of Python's logging on to a logger, which is made for the first record."""

    def __init__(self, settings: Settings) -> None:
        least = logging.getLevelNamesMapping()[settings.log_level.upper()]
        super().__init__(max(logging.WARNING, least))
        self._settings = settings
        self._logger: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record. One that cannot be logged must not fail the call that warned.

        Handler.handleError would write the record's arguments to stderr, with their credentials.
        """
        with suppress(Exception):
            self._log(record)

    def _log(self, record: logging.LogRecord) -> None:
        if self._logger is None:
            self._logger = make_logger(self._settings)
        fields = {"library": record.name, "message": _message(record)}
        if record.exc_info and record.exc_info[1]:
            fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        say = self._logger.error if record.levelno >= logging.ERROR else self._logger.warning
        say("library reported", **fields)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - the library's arguments do not fit its format
        return str(record.msg)


def load_structlog() -> ModuleType:
    """Import structlog, but not rich, which it imports for tracebacks that are never logged."""
    name = "rich"
    absent = name not in sys.modules
    if absent:
        sys.modules[name] = None  # type: ignore[assignment] # "cannot be imported"
    try:
        return import_module("structlog")
    finally:
        if absent:
            del sys.modules[name]


def _plain(
    secrets: Secrets,
    shown: Callable[[str], str],
    _logger: object,
    _method: str,
    fields: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    """Hide credentials in an event's texts, and show what would control a terminal.

    JSON needs no such care: it has every character but those of ASCII as an escape.
    """
    for name, value in fields.items():
        if isinstance(value, str):
            fields[name] = shown(secrets.hidden(value))
    return fields
