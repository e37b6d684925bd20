"""What must be there before workers start: a data directory and a store that can be used.

A worker process that finds it out is started again and again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nightmill.cli.terminal import echo
from nightmill.errors import SettingsError
from nightmill.safety import private
from nightmill.store.database import require_drivers

if TYPE_CHECKING:
    from nightmill.settings import Settings


def require_places(settings: Settings) -> None:
    """Raise SettingsError or StoreError for what no start would change; print warnings.

    The data directory may be missing when Redis and the store are elsewhere. Then answers have no
    place on the disk while the store is away.
    """
    folder, store = settings.data_dir, settings.store_at
    require_drivers(store)
    try:
        private.require_folder(folder)
    except SettingsError as error:
        if not (settings.redis_url and settings.store_url):
            raise
        echo(f"warning: {error}; while the store is away, answers are in memory only", err=True)
        return
    if isinstance(store, Path):
        private.require_writable(store)
    for warning in private.warnings(folder):
        echo(warning, err=True)
