"""The short form of every fault; `make chaos` runs the long one, with more seeds."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest

from tests.chaos.faults import ROWS


@pytest.mark.parametrize("name", ROWS)
async def test_nothing_is_lost_or_paid_twice(name: str) -> None:
    """At-least-once execution, exactly-once recording, whatever dies on the way."""
    with tempfile.TemporaryDirectory(prefix="nm-") as folder:
        report = await ROWS[name].fault(Path(folder), random.Random(1), 1)
    assert not report.missed, report
