"""Where a store may be, and the errors for other places."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from nightmill.errors import StoreError, StoreUnavailableError
from nightmill.store import ResultStore
from nightmill.store.database import database

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_path_and_a_url_name_the_same_file(tmp_path: Path) -> None:
    """Settings may hold either."""
    path = tmp_path / "a b#?.db"
    for where in (path, str(path)):
        async with ResultStore.open(where) as store:
            assert repr(store).endswith(".db>")
    assert path.is_file()
    for kind in ("sqlite", "sqlite+aiosqlite"):
        async with ResultStore.open(f"{kind}:///{tmp_path}/{kind}.db"):
            assert (tmp_path / f"{kind}.db").is_file()


@pytest.mark.parametrize("url", ["mysql://host/db", "redis://host", "://"])
def test_another_kind_of_url_is_refused_with_what_is_allowed(url: str) -> None:
    """STORE_URL and REDIS_URL are easily swapped."""
    with pytest.raises(StoreError, match=r"use sqlite:///path or postgresql://"):
        database(url)


@pytest.mark.parametrize("url", ["postgresql://h:port/db", "postgresql://[::1/db"])
def test_a_url_that_cannot_be_read_is_one_clear_error(url: str) -> None:
    """It ended with the traceback of a parser."""
    with pytest.raises(StoreError, match="STORE_URL is not a URL"):
        database(url)


async def test_a_server_that_is_away_is_named_without_its_password() -> None:
    """Secrets are never logged, and the text of an exception is."""
    pytest.importorskip("asyncpg")
    with socket.socket() as bound:  # bound but not listening: every connection is refused
        bound.bind(("127.0.0.1", 0))
        url = f"postgresql://me:secret@127.0.0.1:{bound.getsockname()[1]}/db"
        with pytest.raises(StoreUnavailableError, match=r"me:\*\*\*@127\.0\.0\.1") as raised:
            await ResultStore.connect(url)
    assert "secret" not in str(raised.value)
