"""Places that cannot be used are found before workers start: once, in one line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nightmill.errors import ExportError, SettingsError, StoreError, StoreMissingError
from nightmill.export.outputs import require_writable
from nightmill.settings import load_settings
from nightmill.store import database
from nightmill_worker.cli.places import require_places

NOWHERE = Path("/proc/nightmill/data")
URLS = {"redis_url": "redis://h", "store_url": "postgresql://h/d"}


def test_a_data_directory_that_cannot_be_made_is_named() -> None:
    """Workers were started for ever, each with `Permission denied: '.nightmill'`."""
    fix = f"cannot write {NOWHERE}. Set NIGHTMILL_DATA_DIR to a writable directory, e.g. /var/lib"
    with pytest.raises(SettingsError, match=fix):
        require_places(load_settings(data_dir=NOWHERE))


def test_a_data_directory_that_only_the_spool_needs_is_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Containers with a read-only file system run with PostgreSQL and Redis."""
    require_places(load_settings(data_dir=NOWHERE, **URLS))
    assert "warning: cannot write" in (err := capsys.readouterr().err)
    assert "answers are in memory only" in err


def test_a_store_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A results.db of another user: every row failed, and workers waited for ever."""
    store = tmp_path / "results.db"
    store.touch()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != store and real(path, mode))
    with pytest.raises(SettingsError, match=f"cannot write {store}. Set NIGHTMILL_DATA_DIR"):
        require_places(load_settings(data_dir=tmp_path))


def test_a_missing_driver_is_named_before_workers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store extra alone gave a traceback about greenlet."""
    url = URLS["store_url"]
    with monkeypatch.context() as patch:
        patch.setattr(database, "find_spec", lambda name: None if name == "greenlet" else name)
        with pytest.raises(
            StoreMissingError, match=r"nightmill\[postgres\]' \(greenlet is missing"
        ):
            require_places(load_settings(**URLS))
    monkeypatch.setitem(sys.modules, "nightmill.store.postgresql", None)  # as when it fails
    with pytest.raises(StoreMissingError, match=r"pip install 'nightmill\[postgres\]'"):
        database.database(url)


def test_a_store_url_that_cannot_be_read_is_found_before_workers_start() -> None:
    """Each worker process ended with it."""
    with pytest.raises(StoreError, match="STORE_URL"):
        require_places(load_settings(store_url="postgresql://h:x/d", redis_url="redis://h"))


@pytest.mark.parametrize("out", ["no/such/out.jsonl", ".", "in.jsonl/out.jsonl", "n" * 300])
def test_an_output_that_cannot_be_written_is_found_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """All calls were made and paid; then came 'cannot be written'."""
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").touch()
    with pytest.raises(ExportError, match=r"cannot be written: "):
        require_writable(out)
    require_writable("in.jsonl")
    require_writable("-")
    require_writable("/dev/null")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
