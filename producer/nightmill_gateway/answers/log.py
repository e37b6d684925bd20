"""The log of the gateway: what an operator must know, on stderr, as the workers' lines are."""

from __future__ import annotations

import logging
import traceback
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from nightmill.safety.logger import make_logger
from nightmill.settings import settings_from_parent

if TYPE_CHECKING:
    from nightmill.settings import Settings


_BOUND: Final[ContextVar[dict[str, str] | None]] = ContextVar("bound", default=None)
"""What every line about the request of this task names."""


class _Log:
    """The logger of this process; it is made for the first line."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._logger: Any = None
        self.debug = False

    def begin(self, settings: Settings) -> None:
        self._settings, self._logger = settings, None
        self.debug = settings.log_level == "debug"

    def write(self, level: int, event: str, **fields: object) -> None:
        settings = self._settings or settings_from_parent()
        if level < logging.getLevelNamesMapping()[settings.log_level.upper()]:
            return
        if self._logger is None:
            self._logger = make_logger(settings)
        named = {**(_BOUND.get() or {}), **fields}
        getattr(self._logger, logging.getLevelName(level).lower())(event, **named)


_LOG: Final = _Log()


def begin_log(settings: Settings) -> None:
    """Log in LOG_FORMAT, from LOG_LEVEL on."""
    _LOG.begin(settings)


def begin_request() -> None:
    """Forget what the lines of the request before on this connection have named."""
    _BOUND.set({})


def bind(**named: str) -> None:
    """Let every further line about this request name its `job_id`, its `batch`."""
    bound = _BOUND.get()
    if bound is not None:
        bound.update(named)


def report(where: str, error: BaseException) -> None:
    """Log a defect with its place; `where` is a request's id, or names a loop."""
    place = {"request_id" if where.startswith("req_") else "loop": where}
    _LOG.write(
        logging.ERROR,
        "request failed" if "request_id" in place else "loop failed",
        **place,
        problem=f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_tb(error.__traceback__)),
    )


def note_death(pid: int, how: str) -> None:
    """Log that a process ended that was not stopped."""
    _LOG.write(logging.ERROR, "gateway process died", pid=pid, problem=how)


def note_request(request_id: str, method: str, route: str, status: int, seconds: float) -> None:
    """Log a request at debug. Its route is a template: an id, or a query, may be a user's text."""
    if _LOG.debug:
        fields = {"request_id": request_id, "method": method, "route": route, "status": status}
        _LOG.write(logging.DEBUG, "request ended", **fields, duration_ms=round(seconds * 1000))
