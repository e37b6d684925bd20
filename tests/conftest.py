"""Fixtures of all tests: one real Valkey for the session, emptied for each test."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from nightmill_worker.machine.embedded import embedded_server
from tests.rig import emptied

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long an example takes depends on the machine: a busy one must not fail a test.
settings.register_profile("nightmill", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nightmill")

# A background job of a shell ignores SIGINT, and so would each process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """Return the unix:// URL of a private Valkey that runs until the session ends."""
    with (
        tempfile.TemporaryDirectory(prefix="nm-") as folder,
        embedded_server(Path(folder)) as url,
    ):
        yield url


@pytest.fixture
def redis_url(valkey_url: str) -> str:
    """Return the URL of the session's Valkey; delete its data and scripts first."""
    return emptied(valkey_url)
