"""The API's error codes, played by the simulator: what stops, what waits, and what fails alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nightmill.queue.batches import Batches
from nightmill.records.state import JobState
from nightmill_worker.events import AccountStopped
from nightmill_worker.simulator import SimulatorConfig
from tests.rig import Rig, hello, rigged, until


async def feed(rig: Rig, profiles: list[str]) -> None:
    """Enqueue a batch with one job for each profile."""
    rows = [
        {**hello(f"say {n}"), "custom_id": str(n), "user_profile_id": profile}
        for n, profile in enumerate(profiles)
    ]
    await rig.producer.feed(rows, batch="b")


@pytest.mark.parametrize(
    "code",
    ["enforced_spend_limit_reached", "contract_spend_limit_reached", "organization_on_hold"],
)
async def test_a_code_about_the_account_stops_it_and_keeps_every_job(
    redis_url: str, tmp_path: Path, code: str
) -> None:
    """Calls that go on would all be refused until a person acts."""
    config = SimulatorConfig(latency_s=0.02, error_code=code)
    async with rigged(redis_url, tmp_path, config, fleet_max_in_flight=4) as rig:
        await feed(rig, ["p"] * 40)
        async with rig.working():
            await until(lambda: rig.events_of(AccountStopped))
            calls = rig.calls()
        counts = await Batches(rig.redis).counts("b")
        assert (counts.failed, counts.succeeded) == (0, 0)
        assert calls <= 8


async def test_a_ramp_limit_only_waits(redis_url: str, tmp_path: Path) -> None:
    """It is over in seconds: a stop would wait for a person."""
    config = SimulatorConfig(latency_s=0.02, error_code="ramp_limit_exceeded")
    async with rigged(redis_url, tmp_path, config) as rig:
        await feed(rig, ["p"] * 3)
        async with rig.working():
            await until(lambda: rig.calls() >= 1)
            rig.sim.configure(error_code=None)
            await until(lambda: _succeeded(rig, 3))
        assert not rig.events_of(AccountStopped)


async def _succeeded(rig: Rig, number: int) -> bool:
    return (await Batches(rig.redis).counts("b")).succeeded == number


async def test_a_linked_organizations_limit_ends_the_jobs_of_its_profile_alone(
    redis_url: str, tmp_path: Path
) -> None:
    """30 such jobs in a row would pause the batch, although the other profiles may go on."""
    config = SimulatorConfig(latency_s=0.02, spent_profile="poor")
    async with rigged(redis_url, tmp_path, config) as rig:
        await feed(rig, ["poor"] * 30 + ["rich"] * 5)
        async with asyncio.timeout(60):
            await rig.work_off()
        counts = await Batches(rig.redis).counts("b")
        assert (counts.failed, counts.succeeded, counts.flag) == (30, 5, "")
        row = await rig.row("b:0")
        assert row.status is JobState.FAILED
        assert row.error is not None
        assert row.error.type == "linked_organization_spend_limit"
        assert "retry BATCH --error linked_organization_spend_limit" in (row.error.fix or "")
        assert not rig.events_of(AccountStopped)
