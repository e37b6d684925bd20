"""What a batch has spent is what the endpoint's own sums cost by the public rules."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from nightmill.queue.batches import Batches
from nightmill.records.limits import NANO, Change
from nightmill_worker.simulator import SimulatorConfig
from tests.rig import Rig, rigged, until

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "claude-opus-4-8"
MILLION = 1_000_000
LONG = "word " * 2000


def request(number: int, ttl: str, **fields: object) -> dict[str, object]:
    """Return a request whose system prompt is cached."""
    mark = {"type": "ephemeral", "ttl": ttl}
    return {
        "model": MODEL,
        "max_tokens": 200,
        "system": [{"type": "text", "text": LONG + ttl, "cache_control": mark}],
        "messages": [{"role": "user", "content": f"question {number}"}],
        **fields,
    }


async def played(rig: Rig, batch: str, **fields: object) -> tuple[Counter[str], float, float]:
    """Run a batch; return the endpoint's sums, the cost of the rows, what Redis has as spent."""
    before = Counter(rig.sim.ledger.billed)
    for number in range(12):
        params = request(number, ("5m", "1h")[number % 2], **fields)
        await rig.producer.enqueue(params, batch=batch, custom_id=f"{number}")

    async def done() -> bool:
        return sum((await rig.store.counts(batch)).values()) == 12

    async with rig.working():
        await until(done)

        async def counted() -> bool:
            return (await Batches(rig.redis).counts(batch)).succeeded == 12

        await until(counted)
    rows = [row async for row in rig.store.stream(batch)]
    assert all(row.cost is not None and row.cost_parts is not None for row in rows)
    for row in rows:
        assert row.cost_parts is not None
        assert row.cost_parts.total == pytest.approx(row.cost)
    counts = await Batches(rig.redis).counts(batch)
    billed = Counter(rig.sim.ledger.billed)
    billed.subtract(before)
    return billed, sum(row.cost or 0 for row in rows), counts.nanodollars / NANO


def dollars(billed: Counter[str], factor: float) -> float:
    """Return the cost of the endpoint's sums at the public prices of Opus 4.8."""
    tokens = (
        billed["input_tokens"] * 5
        + billed["output_tokens"] * 25
        + billed["cache_read_input_tokens"] * 0.5
        + billed["ephemeral_5m_input_tokens"] * 6.25
        + billed["ephemeral_1h_input_tokens"] * 10
    )
    return factor * tokens / MILLION + billed["web_search_requests"] * 0.01


async def test_workers_and_budgets_use_own_prices(redis_url: str, tmp_path: Path) -> None:
    """A budget in dollars was refused for a model of one's own, and its rows had no cost."""
    file = tmp_path / "prices.toml"
    file.write_text('["house-7b"]\ninput = 100\noutput = 1000\n')
    config = SimulatorConfig(latency_s=0.01)
    async with rigged(redis_url, tmp_path, config, prices=str(file), model="house-7b") as rig:
        batches = Batches(rig.redis)
        limits = await batches.limit("b", Change(budget_usd=1.0), settings=rig.settings)
        assert (limits.price_in, limits.price_out) == (100_000, 1_000_000)
        for number in range(30):
            params = {"max_tokens": 200, "messages": [{"role": "user", "content": f"{number}"}]}
            await rig.producer.enqueue(params, batch="b", custom_id=f"{number}")

        async def spent() -> bool:
            return (await batches.counts("b")).flag == "budget"

        async with rig.working():
            await until(spent)
        rows = [row async for row in rig.store.stream("b")]
        costs = [100 * row.usage.input_tokens + 1000 * row.usage.output_tokens for row in rows]
        assert sum(row.cost or 0 for row in rows) == pytest.approx(sum(costs) / MILLION)
        assert 0 < sum(costs) / MILLION <= 1.2, "the last calls may use more than the mean"


async def test_rows_and_redis_have_the_endpoints_bill(redis_url: str, tmp_path: Path) -> None:
    """Writes of 1 h, reads, searches, fast and US-only calls were billed as plain input."""
    config = SimulatorConfig(latency_s=0.01)
    tools = [{"type": "web_search_20260209", "name": "web_search"}]
    async with rigged(redis_url, tmp_path, config) as rig:
        for batch, factor, fields in (
            ("plain", 1.0, {}),
            ("searching", 1.0, {"tools": tools}),
            ("fast", 2 * 1.1, {"speed": "fast", "inference_geo": "us"}),
        ):
            billed, rows, spent = await played(rig, batch, **fields)
            assert billed["cache_read_input_tokens"] > 0
            assert billed["ephemeral_1h_input_tokens"] > 0
            expected = dollars(billed, factor)
            assert rows == pytest.approx(expected, abs=1e-9)
            assert spent == pytest.approx(expected, abs=12e-9)
