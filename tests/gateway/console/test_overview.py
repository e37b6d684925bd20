"""The overview: every number is the one of `status --json` and of the store."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill.client.corrected import Corrections
from nightmill.queue import keys
from nightmill.records.counts import Counts
from nightmill.reports.history_points import totals
from nightmill.reports.view import look
from nightmill.store.audit import AuditLog
from nightmill_gateway.console.formats import key
from nightmill_gateway.console.live.histories import MOST_BATCHES, newest
from nightmill_worker.fleet.history import HistoryKeeper
from nightmill_worker.simulator.config import Fault
from tests.gateway.console.browser import Browser, logged_in
from tests.rig import Rig, hello, until

if TYPE_CHECKING:
    from tests.gateway.door import Door

SHOWN = re.compile(r'data-name="(\w+)" data-value="([^"]*)"')


async def batch_of(rig: Rig, name: str, jobs: int) -> None:
    """Enqueue jobs of a batch."""
    for n in range(jobs):
        await rig.producer.enqueue(hello(f"{name} {n}"), batch=name, custom_id=str(n))


async def test_it_says_how_to_begin(door: Door) -> None:
    """Who opens it first finds the two commands."""
    async with logged_in(door) as browser:
        page = await browser.get("/")
        assert "Nothing has run yet" in page.text
        assert "nightmill enqueue prompts.jsonl nightmill worker" in page.text


async def test_every_number_is_that_of_status_and_of_the_store(door: Door, rig: Rig) -> None:
    """Two places that show different numbers are both wrong to a reader."""
    await batch_of(rig, "one", 5)
    await batch_of(rig, "two", 3)
    await rig.producer.enqueue(hello(), job_id="single")
    history = HistoryKeeper(rig.redis)
    await history.keep()
    await rig.work_off()
    async with logged_in(door) as browser:
        page = await browser.get("/")
    shown = dict(SHOWN.findall(page.html))
    view = await look(door.services.batches, None, Corrections(door.services.batches, rig.settings))
    status = json.loads(view.to_json())
    parts = [*status["batches"].values(), status["single"]]
    assert int(shown["ended"]) == sum(part["succeeded"] + part["failed"] for part in parts) == 9
    assert int(shown["in_flight"]) == sum(part["in_flight"] for part in parts)
    assert int(shown["refused"]) == sum(part["refused"] for part in parts)
    assert int(shown["waiting"]) == sum(part["queued"] for part in parts)
    for kind in ("input", "output"):
        assert int(shown[f"{kind}_tokens"]) == sum(part["tokens"][kind] for part in parts)
    assert float(shown["cost"]) == pytest.approx(sum(part["cost"]["usd"] for part in parts))
    rows = [row for name in ("one", "two", "") async for row in rig.store.stream(name)]
    assert len(rows) == 9
    assert int(shown["input_tokens"]) == sum(row.usage.input_tokens for row in rows)
    assert int(shown["output_tokens"]) == sum(row.usage.output_tokens for row in rows)
    assert float(shown["cost"]) == pytest.approx(sum(row.cost or 0 for row in rows))


async def test_a_tenant_sees_its_own_batches_only(door: Door, rig: Rig) -> None:
    """Not a name, not a number, not a lane of another tenant."""
    await batch_of(rig, "acme/mine", 2)
    await batch_of(rig, "other/secret", 3)
    async with logged_in(door, tenant="acme", role="viewer") as browser:
        page = await browser.get("/")
        assert "acme/mine" in page.text
        assert "secret" not in page.html
        assert dict(SHOWN.findall(page.html))["waiting"] == "2"
        for path in ("/lanes", "/workers"):
            assert (await browser.get(path)).status == 403
            assert path not in page.html


def test_the_sums_over_time_are_of_the_batches_that_run_then_of_the_newest() -> None:
    """A tenant with a thousand old batches sees last night's, not those whose names come first."""
    counts = {f"t/{n:03}": Counts(succeeded=1, total=1, created_at=n) for n in range(100)}
    counts["t/old"] = Counts(queued=1, created_at=0)
    chosen = newest(counts, counts)
    assert chosen[0] == "t/old"
    assert chosen[1:] == [f"t/{n:03}" for n in range(99, 99 - MOST_BATCHES + 1, -1)]


async def test_the_newest_failures_are_shown_with_their_fix(door: Door, rig: Rig) -> None:
    """What went wrong last is on the first page, and leads to the job."""
    rig.sim.configure(faults=(Fault(status=400, share=1.0),))
    await batch_of(rig, "broken", 2)
    await rig.work_off()
    row = await rig.row("broken:1")
    assert row.error is not None
    async with logged_in(door) as browser:
        page = await browser.get("/")
    assert f"{row.error.type} : {row.error.message}" in page.text
    assert 'href="/jobs/one?id=broken%3A1"' in page.html
    assert f'id="f-{key("broken:1")}"' in page.html, "an id may have 1 kB"


async def test_a_batch_that_does_not_go_on_says_why(door: Door, rig: Rig) -> None:
    """It said "paused", and the reason stood on another page."""
    await batch_of(rig, "one", 1)
    await door.services.batches.pause("one", "20 jobs in a row failed alike")
    async with logged_in(door) as browser:
        text = (await browser.get("/")).text
    assert "paused 20 jobs in a row failed alike" in text


async def test_the_history_fills_the_hour_and_the_day(door: Door, rig: Rig) -> None:
    """What was gained between two points is what the last hour had."""
    history = HistoryKeeper(rig.redis)
    await batch_of(rig, "one", 3)
    await history.keep()
    await rig.work_off()
    counts = await door.services.batches.counts("one")
    seconds, micros = await rig.redis.time()
    point = totals(seconds + micros / 1e6 + 10, [counts])
    added = msgspec.json.encode(point)
    await rig.redis.execute_command("RPUSH", keys.history("hour", "fleet"), added)
    async with logged_in(door) as browser:
        page = await browser.get("/")
    assert "last hour 3 jobs last day 3 jobs" in page.text, (
        "a day has at least what its last hour has"
    )
    assert "succeeded: mean" in page.text


async def test_the_workers_page_lists_a_worker_that_runs(door: Door, rig: Rig) -> None:
    """Version, host, process, memory, and what it does."""
    async with logged_in(door) as browser:
        async with rig.working() as worker:
            await until(lambda: _told(rig, worker.name))
            page = await browser.get("/workers")
            assert worker.name in page.text
            assert socket.gethostname() in page.text
            assert "MiB" in page.text
        await until(lambda: _none_runs(browser))


async def _told(rig: Rig, worker: str) -> bool:
    return await rig.redis.get(keys.WORKER + worker) is not None


async def _none_runs(browser: Browser) -> bool:
    return "No worker runs" in (await browser.get("/workers")).text


async def test_a_stopped_account_is_tried_again_by_an_operator(door: Door, rig: Rig) -> None:
    """A stopped account is what people look for at night: the reason, and a way on."""
    await batch_of(rig, "b", 1)
    await rig.work_off()
    account = str((await rig.row("b:0")).lane).partition(":")[0]
    reason = "Your credit balance is too low. Fix that, then run `nightmill resume`"
    stopped = ["state", "stopped", "reason", reason]
    await rig.redis.execute_command("HSET", keys.ACCOUNT + account, *stopped)
    async with logged_in(door, role="viewer") as browser:
        for path in ("/", "/lanes"):
            assert "credit balance" in (await browser.get(path)).text
        assert "Send one job" not in (await browser.get("/lanes")).text
        assert (await browser.act("/", "/lanes/again", {"account": account})).status == 403
    async with logged_in(door) as browser:
        done = await browser.act("/lanes", "/lanes/again", {"account": "nobody"})
        assert done.status == 404
        done = await browser.act("/lanes", "/lanes/again", {"account": account})
        assert "One%20job%20is%20sent" in done.cookies["nightmill_note"].value
    assert (await door.services.batches.accounts())[account]["state"] == "trial"
    (line,) = await AuditLog(rig.store).page(9, tenant=None, target=None, before=None)
    assert (line.tenant, line.action, line.target) == ("*", "try again", f"*{account}")
    assert "sent as a trial" in (line.outcome or "")


async def test_a_lane_says_in_words_what_limits_it(door: Door, rig: Rig) -> None:
    """In the words of `nightmill lanes`."""
    await rig.producer.enqueue(hello(), job_id="j")
    await rig.work_off()
    async with logged_in(door) as browser:
        page = await browser.get("/lanes")
        assert "Idle: no jobs are waiting." in page.text
        assert "no limit known" in page.text
