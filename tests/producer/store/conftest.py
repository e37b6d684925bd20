"""A store of its own for each test, and one PostgreSQL server for the session."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from nightmill.store import ResultStore
from tests.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.postgres import Postgres

pytest.register_assert_rewrite(
    "tests.producer.store.batches_conformance",
    "tests.producer.store.conformance",
    "tests.producer.store.hostile_conformance",
)

_numbers = count()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a store's file; neither it nor its folder exists yet."""
    return tmp_path / "state" / "results.db"


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """Run a PostgreSQL, which ends with the session in any case."""
    with postgres() as running:
        yield running


@pytest.fixture
def new_database(server: Postgres) -> str:
    """Return the URL of an empty database."""
    return server.create(f"store{next(_numbers)}")


@pytest.fixture
def where(path: Path) -> str:
    """Return where the test's store is: a SQLite file unless its class says otherwise."""
    return str(path)


@pytest.fixture
async def store(where: str) -> AsyncIterator[ResultStore]:
    """Open a new store."""
    async with ResultStore.open(where) as opened:
        yield opened
