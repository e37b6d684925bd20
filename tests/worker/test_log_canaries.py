"""No line of the log has a prompt or a credential, at debug, also where calls fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nightmill.records.result import Usage
from nightmill_worker import events, group_events
from nightmill_worker.events import CallFailed, CallRefused
from nightmill_worker.group_events import BatchChanged, CallEnded, CallsEnded, WorkerProgress
from nightmill_worker.logs import log_events
from nightmill_worker.simulator import SimulatorConfig
from tests.rig import Rig, hello, rigged, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROMPT, KEY = "canary-prompt-51c8", "sk-ant-canary-key-77d1"
FAILURES: dict[str, dict[str, object]] = {
    "none": {},
    "server errors": {"down": 500},
    "wrong key": {"auth": "another-key"},
    "a limit": {"rpm": 60, "burst": 1},
}


def logged(capsys: pytest.CaptureFixture[str], rig: Rig) -> list[dict[str, Any]]:
    """Return the lines of a log at debug of all events of a rig."""
    settings = rig.settings.model_copy(update={"log_level": "debug", "log_format": "json"})
    listen = log_events(settings)
    for event in rig.events:
        listen(event)
    text = capsys.readouterr().err
    assert PROMPT not in text
    assert KEY not in text
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("failure", FAILURES)
async def test_no_line_has_a_prompt_or_a_key(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], failure: str
) -> None:
    """Logs are kept longer, and read by more people, than prompts."""
    config = SimulatorConfig(latency_s=0.01, **FAILURES[failure])  # type: ignore[arg-type]
    async with rigged(redis_url, tmp_path, config, api_key=KEY, max_attempts=2) as rig:
        await rig.redis.set("arq:job:bad", f'{{"prompt": "{PROMPT}"')
        await rig.redis.zadd("nightmill:queue", {"bad": 1_700_000_000_000})
        async with rig.working():
            await rig.row("bad")  # before a wrong key stops the account
            for number in range(5):
                request = {**hello(f"{PROMPT} {number}"), "system": PROMPT}
                await rig.producer.enqueue(request, batch="night", custom_id=f"c{number}")
            await until(lambda: any(list(e.calls()) for e in rig.events_of(CallsEnded)))
        lines = logged(capsys, rig)
    assert any(line["event"] == "call ended" for line in lines)


async def test_the_line_of_a_call_names_all_that_it_belongs_to(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One job, one batch and one request of the endpoint can be looked up."""
    async with rigged(redis_url, tmp_path) as rig:
        await rig.producer.enqueue(hello(), batch="night", custom_id="a")
        async with rig.working() as worker:
            row = await rig.row("night:a")
        (line,) = (each for each in logged(capsys, rig) if each["event"] == "call ended")
    assert line["level"] == "debug"
    assert (line["job_id"], line["batch"], line["attempt"]) == ("night:a", "night", 1)
    assert (line["request_id"], line["account"]) == (row.request_id, worker.account)
    assert f"{line['account']}:{line['lane']}" == row.lane
    assert (line["state"], line["status"]) == ("succeeded", 200)
    assert line["output_tokens"] == row.usage.output_tokens


@pytest.mark.parametrize(
    ("failure", "event"), [("server errors", "call failed"), ("a limit", "call refused")]
)
async def test_every_line_of_a_job_names_all_that_it_belongs_to(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], failure: str, event: str
) -> None:
    """An operator asks for the lines of one batch, one lane or one account."""
    config = SimulatorConfig(latency_s=0.01, **FAILURES[failure])  # type: ignore[arg-type]
    async with rigged(redis_url, tmp_path, config, max_attempts=2) as rig:
        await rig.redis.set("arq:job:bad", "{")
        await rig.redis.zadd("nightmill:queue", {"bad": 1_700_000_000_000})
        async with rig.working() as worker:
            for number in range(3):
                await rig.producer.enqueue(hello(), batch="night", custom_id=f"c{number}")
            await until(lambda: rig.events_of(CallFailed) or rig.events_of(CallRefused))
            await rig.row("bad")
        lines = logged(capsys, rig)
    (bad,) = (each for each in lines if each["event"] == "job quarantined")
    assert (bad["job_id"], bad["batch"], bad["account"]) == ("bad", "", worker.account)
    lane = next(each["lane"] for each in lines if each["event"] == "call ended")
    named = [each for each in lines if each["event"] == event]
    assert named
    for line in named:
        assert (line["batch"], line["account"]) == ("night", worker.account)
        assert (line["lane"], line["attempt"] > 0) == (lane, True)
        assert line["request_id"].startswith("req_")


def test_every_event_that_names_a_job_can_name_all_of_it() -> None:
    """A new event of one job gets the fields by its base."""
    kinds = [*vars(events).values(), *vars(group_events).values()]
    named = [
        kind
        for kind in kinds
        if isinstance(kind, type) and "job_id" in getattr(kind, "__struct_fields__", ())
    ]
    assert len(named) > 5
    assert all(issubclass(kind, events.JobEvent) for kind in named)


def quiet(read: Callable[[], Any]) -> CallsEnded:
    """Return a group of calls."""
    return CallsEnded(calls=read)


async def test_at_info_there_is_a_line_a_minute_and_one_for_each_batch(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And none for a call: a million of them cost more than their calls."""
    call = CallEnded(
        job_id="a",
        batch="b",
        attempt=1,
        request_id="",
        account="a",
        lane="m",
        model="m",
        state="succeeded",
        status=200,
        error_type="",
        started_at=1,
        duration_ms=1,
        usage=Usage(),
        response_model="",
        finish_reason="",
        traceparent="",
    )
    async with rigged(redis_url, tmp_path) as rig:
        listen = log_events(rig.settings.model_copy(update={"log_format": "json"}))
    listen(quiet(lambda: iter([call])))
    failed = CallFailed(job_id="a", error_type="api_error", message="m", wait_ms=1)
    listen(failed)
    listen(failed)
    listen(WorkerProgress(worker="w", running=3, held=4))
    listen(WorkerProgress(worker="w", running=3, held=4))
    for number in range(1000):  # an endpoint may name a kind of its own for each call
        listen(msgspec.structs.replace(failed, error_type=f"e{number % 30}"))
    listen(BatchChanged(batch="b", state="done", succeeded=1, failed=0, total=1))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    names = ["call failed", "worker progress", "worker progress", *["call failed"] * 20]
    assert [line["event"] for line in lines] == [*names, "batch changed"]
    assert (lines[1]["calls_failed"], lines[2]["calls_failed"]) == (2, 0)
    assert (lines[1]["running"], lines[1]["held"]) == (3, 4)


async def test_a_batch_that_starts_and_ends_is_told_once(redis_url: str, tmp_path: Path) -> None:
    """By one worker, at info; what was there before the worker is left out."""
    async with rigged(redis_url, tmp_path) as rig:
        await rig.producer.enqueue(hello(), batch="old", custom_id="a")
        await rig.work_off()
        rig.events.clear()
        async with rig.working() as worker:
            await until(lambda: worker._background._notes.began)
            await rig.producer.enqueue(hello(), batch="new", custom_id="a")
            await rig.row("new:a")
            await until(lambda: rig.events_of(BatchChanged))
            await until(lambda: rig.events_of(BatchChanged)[-1].succeeded == 1)
        changes = rig.events_of(BatchChanged)
        assert {each.batch for each in changes} == {"new"}
        assert changes[-1].state == "done"
