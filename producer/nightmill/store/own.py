"""Stores of one's own: docs/plug-points.md. An entry point of `nightmill.stores` names a scheme."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from nightmill.errors import NightmillError, StoreError, StoreMissingError
from nightmill.store.connection import USE

if TYPE_CHECKING:
    from nightmill.store.connection import Database

GROUP: Final = "nightmill.stores"
NEEDED: Final = ("run", "glance", "close", "where", "opened")
"""What a Database has."""


def own_database(scheme: str, url: str) -> Database:
    """Return the database that the installed package for `scheme` makes of a URL.

    Raises StoreError when there is no such package or it makes none, StoreMissingError when it
    cannot be loaded.
    """
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    if (entry := entries.get(scheme)) is None:
        known = f"; installed: {', '.join(f'{name}://' for name in sorted(entries))}"
        raise StoreError(f"STORE_URL is {scheme}://: {USE}{known if entries else ''}")
    try:
        factory = entry.load()
    except Exception as error:  # noqa: BLE001 - another package's fault is a fault of the setting
        problem = f"{type(error).__name__}: {error}"
        raise StoreMissingError(f"the store of {scheme}:// cannot be loaded: {problem}") from None
    try:
        made = factory(url)
    except NightmillError:
        raise
    except Exception as error:  # noqa: BLE001 - the same
        problem = f"{type(error).__name__}: {error}"
        raise StoreError(f"the store of {scheme}:// cannot be made: {problem}") from None
    if missing := [name for name in NEEDED if not hasattr(made, name)]:
        raise StoreError(
            f"the store of {scheme}:// is no nightmill.store.Database: its entry point returned "
            f"{type(made).__name__}, without {', '.join(missing)}"
        )
    database: Database = made
    return database
