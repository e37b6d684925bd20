"""The short form of every row; `make chaos` runs the long form with more seeds."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest

from tests.chaos.faults import ROWS


@pytest.mark.parametrize("name", ROWS)
async def test_nothing_is_lost_or_paid_twice(name: str) -> None:
    """No job is lost and no answer is paid for twice, whichever process or server fails."""
    with tempfile.TemporaryDirectory(prefix="nm-") as folder:
        report = await ROWS[name].fault(Path(folder), random.Random(1), 1)
    assert not report.missed, report
