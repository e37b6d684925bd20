"""Faults between the calls of one job: its paid answers are in the store, and bought once."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

from nightmill.queue.batches import Batches
from tests.chaos.fleet import BATCH, ENTRIES, running_fleet
from tests.chaos.report import Report
from tests.postgres import postgres

KILLS: Final = 2
STOPS: Final = [
    {"reason": "pause_turn", "share": 0.5},
    {"reason": "max_tokens", "share": 0.25},
    {"reason": "refusal", "share": 0.25},
]


async def between_turns(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Kill workers with SIGKILL after a turn is stored and before its job is released."""
    return await _between_turns(folder, scale, "")


async def between_turns_postgres(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Do the same with a PostgreSQL store."""
    with postgres() as server:
        return await _between_turns(folder, scale, server.url)


async def _between_turns(folder: Path, scale: int, store_url: str) -> Report:
    jobs = 12 * scale
    changed: dict[str, Any] = {"lease_s": 1.0}
    if store_url:
        changed["store_url"] = store_url
    async with running_fleet(folder, **changed) as fleet:
        await fleet.configure(stops=[{"reason": "pause_turn", "share": 1.0}])
        await Batches(fleet.redis).accept(
            BATCH, on_truncated="grow", max_tokens_ceiling=1 << 20, on_refusal="model:other"
        )
        # A call that is in flight when its worker is killed is lost. With one job there is none.
        for number in range(KILLS):
            await fleet.feed([number])
            worker = fleet.start_worker(ENTRIES / "between_turns.py")
            await fleet.wait_for_exit(worker)
            await fleet.start_workers(1)
            await fleet.wait_for_rows(number + 1)
            await fleet.end(fleet.workers[0])
        await fleet.configure(stops=STOPS)
        await fleet.feed(range(jobs))
        await fleet.start_workers(1)
        await fleet.wait_for_rows(jobs)
        called = await fleet.quiet()
        rows, stats = await fleet.results(), await fleet.stats()
        assert fleet.store
        spent = await fleet.store.spent(BATCH)
        counts = await Batches(fleet.redis).counts(BATCH)
        where = "PostgreSQL" if store_url else "SQLite"
        report = Report(fault=f"SIGKILL between turns, {where}", jobs=jobs, lost=jobs - len(rows))
        paid = sum(row.turns + 1 for row in rows)
        report.extra_calls = called - paid
        turns = [row.turns for row in rows]
        report.expect("0 lost", kept=not report.lost)
        report.expect(f"every call is in a row: {called} calls, {turns}", kept=called == paid)
        billed = (stats["billed"]["input_tokens"], stats["billed"]["output_tokens"])
        stored = (spent.usage.input_tokens, spent.usage.output_tokens)
        counted = (counts.input_tokens, counts.output_tokens)
        report.expect(f"the store has the bill: {stored}, {billed}", kept=stored == billed)
        report.expect(f"Redis has the bill: {counted}, {billed}", kept=counted == billed)
        left = await fleet.store.turns([row.job_id for row in rows])
        report.expect("no turn is left", kept=not left)
        return report
