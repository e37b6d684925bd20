"""The short form of every row; `make chaos` runs the long form with more seeds."""

from __future__ import annotations

import random
import tempfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest

from tests.chaos import endpoint
from tests.chaos.faults import ROWS
from tests.chaos.report import Report


@pytest.mark.parametrize("name", ROWS)
async def test_nothing_is_lost_or_paid_twice(name: str) -> None:
    """No job is lost and no answer is paid for twice, whichever process or server fails."""
    with tempfile.TemporaryDirectory(prefix="nm-") as folder:
        report = await ROWS[name].fault(Path(folder), random.Random(1), 1)
    assert not report.missed, report


async def test_a_breaker_that_stays_closed_is_a_missed_bar_of_its_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It ended the row with an exception, so that the table had no numbers of it."""
    fleet = AsyncMock(sim_url="", in_flight=AsyncMock(return_value=0))
    fleet.results.return_value = []
    monkeypatch.setattr(endpoint, "OPENS_S", 0.05)
    monkeypatch.setattr(endpoint, "running_fleet", lambda *_, **__: nullcontext(fleet))
    monkeypatch.setattr(endpoint, "linked", lambda _: nullcontext((AsyncMock(), "")))
    flow = SimpleNamespace(opened=False, fed=0)
    monkeypatch.setattr(endpoint, "busy", lambda *_, **__: nullcontext(flow))
    for name in ("throughput", "until_throughput"):
        monkeypatch.setattr(endpoint, name, AsyncMock(return_value=1.0))

    async def judge(_fleet: object, fault: str, jobs: int, **_: object) -> Report:
        return Report(fault=fault, jobs=jobs)

    monkeypatch.setattr(endpoint, "judge", judge)
    report = await endpoint.storm(tmp_path, random.Random(1), 1)
    assert report.missed == ["the breaker opens"]
    lasted_s = float(report.fault.removeprefix("529s for ").removesuffix(" s"))
    assert 0.5 <= lasted_s < 30, "until it was repaired"
