"""The short form of the fuzz run: one epoch with a fixed seed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.fuzz.epoch import run_epoch


async def test_no_value_from_outside_ends_a_worker() -> None:
    """Odd payloads, answers and spool files cost their own jobs only."""
    with tempfile.TemporaryDirectory(prefix="nm-") as folder:
        epoch = await run_epoch("1", Path(folder), 40)
    assert not epoch.problems, epoch
