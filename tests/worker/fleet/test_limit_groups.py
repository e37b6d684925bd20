"""Workers hold the models of a group to one limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.queue import keys
from tests.rig import hello, rigged, until

if TYPE_CHECKING:
    from pathlib import Path


async def test_two_models_of_a_family_are_one_lane(redis_url: str, tmp_path: Path) -> None:
    """Two lanes on one bucket took turns in being refused, and neither used it up."""
    async with rigged(redis_url, tmp_path) as rig:
        for number in range(6):
            model = ("claude-opus-4-6", "claude-opus-4-8", "claude-opus-5")[number % 3]
            await rig.producer.enqueue(
                {**hello(), "model": model}, batch="b", custom_id=f"{number}"
            )
        async with rig.working() as worker:

            async def done() -> bool:
                return sum((await rig.store.counts("b")).values()) == 6

            await until(done)
        rows = [row async for row in rig.store.stream("b")]
        lanes = {row.model: row.lane for row in rows}
        family, other = f"{worker.account}:claude-opus-4.x", f"{worker.account}:claude-opus-5"
        assert lanes["claude-opus-4-6"] == lanes["claude-opus-4-8"] == family
        assert lanes["claude-opus-5"] == other
        found = await rig.redis.execute_command("SMEMBERS", keys.LANES)
        assert {name.decode() for name in found} == {family, other}
