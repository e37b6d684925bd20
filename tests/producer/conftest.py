"""Fixtures: a shell for the tests of commands, and a rig with the same Redis and results."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.shell import Shell
from tests.rig import Rig, rigged


@pytest.fixture
def shell(tmp_path: Path, redis_url: str) -> Shell:
    """Return a shell in an empty folder, whose commands use the session's Valkey."""
    return Shell(tmp_path, redis_url=redis_url)


@pytest.fixture
async def rig(shell: Shell, redis_url: str) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, shell.data) as made:
        yield made
