"""No worker looks like no worker: in status, lanes, wait and doctor, as text and as JSON."""

from __future__ import annotations

import asyncio
import json

from nightmill.queue import keys
from nightmill.queue.live_workers import read_live
from nightmill.records.counts import Counts
from nightmill.reports.around import Around
from tests.integration.shell import Shell
from tests.rig import Rig, hello, until

NO_WORKER = 'no worker is running: start one with "nightmill worker"'


def test_status_says_that_no_worker_is_running(shell: Shell) -> None:
    """It said "running" and "ETA ?", and people waited for a night."""
    fed = shell("enqueue", shell.write(3, "nw.jsonl"))
    assert fed.err.splitlines()[-1].startswith(f"waiting: {NO_WORKER}")
    shown = shell("status", "nw")
    assert f"waiting: {NO_WORKER}" in shown.out
    assert "nw     waiting  0 of 3" in shown.out
    status = shell.status("nw")
    assert (status["state"], status["workers"]) == ("waiting", 0)


def test_wait_says_that_no_worker_is_running(shell: Shell) -> None:
    """It waited without a word."""
    assert shell("enqueue", shell.write(3, "nw.jsonl")).code == 0
    done = shell("wait", "nw", "--timeout", "0.5")
    assert done.code == 124
    assert f"waiting: {NO_WORKER}" in done.err
    assert done.out.startswith(f"nw: 0 succeeded, 3 left; {NO_WORKER}")
    as_json = shell("wait", "nw", "--timeout", "0.1", "--json")
    assert json.loads(as_json.out)["workers"] == 0


async def test_lanes_and_doctor_count_workers(shell: Shell, rig: Rig) -> None:
    """A lane without jobs is idle, which is no reason to look for a fault."""
    await rig.producer.enqueue(hello(), job_id="j")
    async with rig.working():
        await rig.row("j")
        await until(lambda: rig.redis.execute_command("HLEN", keys.ACCOUNTS))
        assert len(await read_live(rig.redis)) == 1
        lanes = await asyncio.to_thread(shell, "lanes")
        status = await asyncio.to_thread(shell, "status", "--json")
        doctor = await asyncio.to_thread(shell, "doctor")
        rig.sim.configure(latency_s=30)
        await rig.producer.enqueue(hello(), batch="slow", custom_id="a")
        waited = await asyncio.to_thread(shell, "wait", "slow", "--timeout", "0.5")
    assert waited.out == "slow: 0 succeeded, 1 left; 1 worker running\n"
    assert "1 worker running" in lanes.out
    assert "Idle: no jobs are waiting." in lanes.out
    assert "claude-opus-4.x at 127.0.0.1:" in lanes.out
    assert json.loads(status.out)["workers"] == 1
    assert "workers: 1 running" in doctor.out
    await until(lambda: _none(rig))
    assert NO_WORKER.capitalize() in shell("lanes").out
    assert "workers: no worker is running" in shell("doctor").out


async def test_lanes_and_the_panel_say_that_the_workers_are_full(shell: Shell, rig: Rig) -> None:
    """They said "nothing limits it" while each worker had as many calls as it may have."""
    await rig.producer.enqueue(hello(), batch="b", custom_id="0")
    seconds, _ = await rig.redis.execute_command("TIME")
    hot = json.dumps({"refilled_at": seconds})
    await rig.redis.execute_command("SADD", keys.LANES, "a:m")
    await rig.redis.execute_command("HSET", keys.LANE + "a:m", "hot", hot)
    sign = f"{seconds} running=9 held=10"
    await rig.redis.execute_command("HSET", keys.WORKERS, "w", sign)
    await rig.redis.execute_command("SET", keys.WORKER + "w", '{"most":10}')
    says = "The workers are full at 10 jobs in flight: raise MAX_IN_FLIGHT, or add workers."
    assert says in " ".join((await asyncio.to_thread(shell, "lanes")).out.split())
    beside = Around(rig.redis, rig.settings, "b")
    for _ in range(2):
        await beside.read(Counts(queued=1))
    assert beside.limited_by == (says,)


async def _none(rig: Rig) -> bool:
    return not await read_live(rig.redis)


async def test_a_lane_that_was_not_used_for_a_day_is_shown_on_request(
    shell: Shell, rig: Rig
) -> None:
    """Old keys and models filled the screen."""
    seconds, _ = await rig.redis.execute_command("TIME")
    old, new = json.dumps({"refilled_at": seconds - 90_000}), json.dumps({"refilled_at": seconds})
    await rig.redis.execute_command("SADD", keys.LANES, "a:old-model", "a:new-model")
    await rig.redis.execute_command("HSET", keys.LANE + "a:old-model", "hot", old)
    await rig.redis.execute_command("HSET", keys.LANE + "a:new-model", "hot", new)
    shown = shell("lanes").out
    assert "new-model (a)" in shown
    assert "old-model" not in shown
    assert "1 lane unused for a day: nightmill lanes --all" in shown
    assert "old-model (a)" in shell("lanes", "--all").out


async def test_resume_says_whether_there_is_something_to_run(shell: Shell, rig: Rig) -> None:
    """It said "goes on" of a batch whose jobs had all ended, and of one without workers."""
    assert shell("enqueue", shell.write(3, "nw.jsonl")).code == 0
    assert shell("pause", "nw").code == 0
    assert shell("resume", "nw").out.startswith(f'"nw" goes on once a worker runs; {NO_WORKER}')
    await rig.work_off()
    done = shell("resume", "nw").out
    assert done == '"nw" has nothing left to run: 3 jobs of it are stored\n'
