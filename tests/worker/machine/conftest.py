"""A short folder for an embedded server: the path of its socket has a longest length."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill_worker.machine.running_server import lives


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a data directory, not made yet, with a short path; no server may be left there."""
    with tempfile.TemporaryDirectory(prefix="nm-") as parent:
        path = Path(parent) / ".nightmill"
        yield path
        assert not path.is_dir() or not lives(path), "a server was left running"
