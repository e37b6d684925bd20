"""The pytest plugin: two fixtures. pytest loads it in every run, so it imports nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nightmill.testing.memory import MemoryProducer
    from nightmill.testing.mill import FakeMill


@pytest.fixture
def memory_producer() -> MemoryProducer:
    """Return a Producer without Redis, which answers at once."""
    from nightmill.testing.memory import MemoryProducer  # noqa: PLC0415 - only where it is used

    return MemoryProducer()


@pytest.fixture
def fake_mill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMill]:
    """Run a Redis, a worker and a simulated endpoint; NIGHTMILL_ variables lead to them."""
    from nightmill.testing.mill import fake_mill  # noqa: PLC0415 - only where it is used

    with fake_mill(tmp_path / "nightmill") as mill:
        for name, value in mill.environment.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        yield mill
