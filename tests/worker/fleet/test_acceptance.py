"""What follows from each stop reason: kept, failed, or called again, with every turn paid once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill.errors import StoreUnavailableError
from nightmill.maintenance.cancellation import Cancellation
from nightmill.queue import keys, wire
from nightmill.queue.batches import Batches
from nightmill.records.job import request_hash
from nightmill.records.message import is_null
from nightmill.records.result import Usage
from nightmill.records.state import JobState
from nightmill.records.turn import Turn
from nightmill_worker.events import StoreBack
from tests.rig import Rig, hello, rigged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nightmill.records.result import Result
    from nightmill.records.turn import Why


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig whose endpoint answers at once."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


def stopping(rig: Rig, **shares: float) -> None:
    """Let the endpoint stop answers with reasons by share."""
    rig.sim.configure(stops=[{"reason": name, "share": share} for name, share in shares.items()])


async def ran(rig: Rig, count: int = 1, *, max_tokens: int = 40, **accept: object) -> list[Result]:
    """Run a batch to its end; return its rows."""
    batch = rig.producer.batch("night")
    if accept:
        await batch.accept(**accept)  # type: ignore[arg-type]
    requests = [
        {"custom_id": f"c{i}", **hello(f"number {i}"), "max_tokens": max_tokens}
        for i in range(count)
    ]
    await rig.producer.enqueue_many(requests, batch="night")
    await rig.work_off()
    rows = [row async for row in batch.results()]
    assert len(rows) == count
    assert await rig.store.turns([row.job_id for row in rows]) == {}
    await exact(rig)
    return rows


async def exact(rig: Rig) -> None:
    """Require that the store and Redis have what the endpoint billed, to the token."""
    billed = rig.sim.ledger.billed
    spent = await rig.store.spent("night")
    counts = await rig.producer.batch("night").counts()
    assert (spent.usage.input_tokens, spent.usage.output_tokens) == (
        billed["input_tokens"],
        billed["output_tokens"],
    )
    assert (counts.input_tokens, counts.output_tokens) == (
        billed["input_tokens"],
        billed["output_tokens"],
    )


async def test_an_answer_that_pauses_is_continued_to_one_message(rig: Rig) -> None:
    """A third of an answer was stored as succeeded; its user had to send the rest by hand."""
    stopping(rig, pause_turn=1)
    for row in await ran(rig, 5):
        assert row.status is JobState.SUCCEEDED
        assert row.message is not None
        parts = row.turns + 1
        texts = [block["text"] for block in row.message["content"]]
        begins = [f"[part {n} of {parts}]" for n in range(1, parts + 1)]
        assert [text[:13] for text in texts] == begins
        assert row.message["usage"]["output_tokens"] == row.usage.output_tokens
        assert (row.stop_reason, row.attempt_count, row.snooze_count) == ("end_turn", 1, row.turns)
        assert [each.outcome for each in row.attempts] == ["continued"] * row.turns + ["succeeded"]
        assert all(is_null(each.answer) for each in row.attempts)
        assert row.params is not None
        assert len(msgspec.json.decode(row.params)["messages"]) == 1  # as the user sent it


async def test_a_pause_may_be_kept(rig: Rig) -> None:
    """A gateway's client continues the answer itself."""
    stopping(rig, pause_turn=1)
    (row,) = await ran(rig, on_pause="keep")
    assert (row.status, row.stop_reason, row.turns) == (JobState.SUCCEEDED, "pause_turn", 0)


async def test_an_answer_that_pauses_for_ever_ends_unfinished(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten continuations are paid at most; the content so far is kept."""
    monkeypatch.setattr("nightmill_worker.simulator.stops.MOST_PAUSES", 1)
    monkeypatch.setattr("nightmill_worker.jobs.chain.MAX_PAUSES", 0)
    stopping(rig, pause_turn=1)
    (row,) = await ran(rig)
    assert row.status is JobState.FAILED
    assert row.error is not None
    assert row.error.type == "unfinished"
    assert row.text.startswith("[part 1")


async def test_truncated_answers_are_kept_and_counted_by_default(rig: Rig) -> None:
    """Batches that say nothing go on as before."""
    stopping(rig, max_tokens=1)
    (row,) = await ran(rig)
    assert (row.status, row.stop_reason) == (JobState.SUCCEEDED, "max_tokens")
    assert (await rig.producer.batch("night").counts()).stop_reasons == {"max_tokens": 1}


async def test_a_truncated_answer_fails_with_its_message_and_bill(rig: Rig) -> None:
    """35 % of the rows of a data set were cut, and all of them succeeded."""
    stopping(rig, max_tokens=1)
    (row,) = await ran(rig, on_truncated="fail")
    assert row.status is JobState.FAILED
    assert row.error is not None
    assert (row.error.type, row.error.message) == ("truncated", "cut at max_tokens 40")
    assert row.error.fix == "raise max_tokens"
    assert row.text
    assert row.usage.output_tokens > 0
    assert row.cost is not None


async def test_a_truncated_answer_grows_up_to_the_ceiling(rig: Rig) -> None:
    """The answers that were cut are in the history, with their tokens."""
    stopping(rig, max_tokens=1)
    rows = await ran(rig, 8, on_truncated="grow", max_tokens_ceiling=80)
    assert {row.status for row in rows} == {JobState.SUCCEEDED, JobState.FAILED}
    for row in rows:
        first, *_ = row.attempts
        assert (row.turns, first.error_type) == (1, "truncated")
        assert first.billed is not None
        assert not is_null(first.answer)
        used = first.billed.output_tokens
        assert row.message is not None
        assert row.usage.output_tokens == used + row.message["usage"]["output_tokens"]
        if row.error is not None:
            assert row.error.message == "cut at max_tokens 80"
            assert "raise --max-tokens-ceiling" in (row.error.fix or "")


async def test_a_refusal_fails(rig: Rig) -> None:
    """A refusal is no label."""
    stopping(rig, refusal=1)
    (row,) = await ran(rig, on_refusal="fail")
    assert row.error is not None
    assert (row.status, row.error.type) == (JobState.FAILED, "refused")
    assert row.text.startswith("I can't")


async def test_a_refusal_is_sent_once_to_another_model(rig: Rig) -> None:
    """Its call is held to the other model's limits: it waits in that model's queue."""
    stopping(rig, refusal=0.5)
    rows = await ran(rig, 12, on_refusal="model:other-model")
    moved = [row for row in rows if row.turns]
    assert 0 < len(moved) < 12
    for row in moved:
        assert row.model == "other-model"
        assert (row.lane or "").endswith(":other-model")
        assert row.attempts[0].error_type == "refused"
        assert row.error is None or row.error.message == "refused by other-model too"
    hashes = {row.request_hash for row in rows}
    assert len(hashes) == 12


async def test_a_single_job_has_its_own_acceptance(rig: Rig) -> None:
    """A single job has no batch; its other model's queue is that of single jobs."""
    stopping(rig, refusal=0.5)
    jobs = [
        await rig.producer.enqueue(hello(f"{i}"), accept={"on_refusal": "model:other-model"})
        for i in range(8)
    ]
    await rig.work_off()
    rows = [await rig.row(job.job_id) for job in jobs]
    moved = [row for row in rows if row.turns]
    assert moved
    assert all((row.lane or "").endswith(":other-model") for row in moved)
    billed = rig.sim.ledger.billed
    counts = await Batches(rig.redis).counts("")
    assert counts.output_tokens == billed["output_tokens"]
    assert counts.drained


async def test_a_full_context_window_fails_with_the_fix(rig: Rig) -> None:
    """More tokens would not help."""
    stopping(rig, model_context_window_exceeded=1)
    (row,) = await ran(rig)
    assert row.error is not None
    assert (row.status, row.error.type) == (JobState.FAILED, "context_exceeded")
    assert "shorten the request" in (row.error.fix or "")
    assert row.message


@pytest.mark.parametrize("reason", ["end_turn", "stop_sequence", "tool_use", "of_next_year"])
async def test_other_stop_reasons_are_accepted(rig: Rig, reason: str) -> None:
    """A reason that does not exist yet is counted, and no reason to lose an answer."""
    stopping(rig, **{reason: 1})
    (row,) = await ran(rig, on_truncated="fail", on_refusal="fail")
    assert (row.status, row.stop_reason) == (JobState.SUCCEEDED, reason)


async def test_seven_stop_reasons_over_2000_jobs(rig: Rig) -> None:
    """No incomplete row succeeds under `fail`; usage is the endpoint's own, to the token."""
    rig.sim.configure(latency_s=0.0)
    names = ("end_turn", "stop_sequence", "tool_use", "max_tokens", "pause_turn", "refusal")
    stopping(rig, **dict.fromkeys((*names, "model_context_window_exceeded"), 1 / 7))
    rows = await ran(rig, 2000, on_truncated="fail", on_refusal="fail")
    whole = {"end_turn", "stop_sequence", "tool_use"}
    assert all(row.stop_reason in whole for row in rows if row.status is JobState.SUCCEEDED)
    errors = {row.error.type for row in rows if row.error is not None}
    assert errors == {"truncated", "refused", "context_exceeded"}
    assert sum(row.turns for row in rows) > 300
    total = sum((row.usage.output_tokens for row in rows), 0)
    assert total == rig.sim.ledger.billed["output_tokens"]


async def turn_of(rig: Rig, job_id: str, why: Why, **changes: object) -> Turn:
    """Return a first turn of a queued job, as a worker that died had stored it."""
    payload = await rig.redis.execute_command("GET", keys.PAYLOAD + job_id)
    job, _ = wire.decode_job(payload)
    turn = Turn(
        job_id=job_id,
        run=0,
        n=1,
        batch="night",
        request_hash=request_hash(job.params),
        why=why,
        message=msgspec.Raw(b'{"type":"message","content":[{"type":"text","text":"begun "}]}'),
        usage=Usage(input_tokens=5, output_tokens=3),
        call=1,
        at=1_700_000_000_000,
    )
    return msgspec.structs.replace(turn, **changes)


@pytest.mark.parametrize("deaths", [0, 2])
async def test_a_job_that_redis_has_lost_goes_on_from_its_turns(rig: Rig, deaths: int) -> None:
    """Its source was fed again; also where it runs in the isolation process."""
    await rig.producer.enqueue_many([{"custom_id": "c", **hello("x")}], batch="night")
    if deaths:
        record = (keys.RECORD + "night:c", "calls", 2, "state", "snoozed", "deaths", deaths)
        await rig.redis.execute_command("HSET", *record)
    await rig.store.record_turns([await turn_of(rig, "night:c", "pause_turn")])
    await rig.work_off()
    row = await rig.row("night:c")
    assert rig.calls() == 1
    assert row.message is not None
    assert [block["text"][:6] for block in row.message["content"]] == ["begun ", "Re: x\n"]
    used = row.message["usage"]["output_tokens"]
    assert (row.turns, row.usage.output_tokens) == (1, used + 3)


async def test_turns_of_another_request_are_spent_and_not_continued(rig: Rig) -> None:
    """A request may be replaced while its job waits between two turns."""
    await rig.producer.enqueue_many([{"custom_id": "c", **hello("x")}], batch="night")
    turn = await turn_of(rig, "night:c", "pause_turn", request_hash="0" * 16)
    await rig.store.record_turns([turn])
    await rig.work_off()
    row = await rig.row("night:c")
    assert row.turns == 0
    spent = await rig.store.spent("night")
    assert spent.usage.output_tokens == row.usage.output_tokens + 3


async def test_a_refused_job_in_its_first_models_queue_is_moved(rig: Rig) -> None:
    """It was fed again: its next call must not be held to the first model's limits."""
    await rig.producer.batch("night").accept(on_refusal="model:other-model")
    await rig.producer.enqueue_many([{"custom_id": "c", **hello("x")}], batch="night")
    await rig.store.record_turns([await turn_of(rig, "night:c", "refused")])
    await rig.work_off()
    row = await rig.row("night:c")
    assert (rig.calls(), row.turns, row.model) == (1, 1, "other-model")
    assert (row.lane or "").endswith(":other-model")


async def test_a_job_that_is_cancelled_between_turns_keeps_its_bill(rig: Rig) -> None:
    """The row said that it had cost 0.0 dollars, and its paid answer was lost."""
    await rig.producer.enqueue_many([{"custom_id": "c", **hello("x")}], batch="night")
    await rig.store.record_turns([await turn_of(rig, "night:c", "pause_turn")])
    await rig.producer.batch("night").cancel()
    await Cancellation(rig.redis, rig.store, rig.settings).run("night")
    row = await rig.row("night:c")
    assert (row.status, row.usage.output_tokens) == (JobState.CANCELLED, 3)
    assert (row.turns, row.message) == (1, None)
    assert row.cost is None, "the turn has no known price"
    assert (await rig.store.spent("night")).usage.output_tokens == 3


async def test_an_acceptance_that_cannot_be_read_costs_nothing(rig: Rig) -> None:
    """Another service may write it: no job is called whose answers nobody could judge."""
    await rig.producer.enqueue_many([{"custom_id": "c", **hello("x")}], batch="night")
    fields = ("accept", '{"on_truncated":"stop"}', "accept_id", "1")
    await rig.redis.execute_command("HSET", keys.BATCH + "night", *fields)
    await rig.work_off()
    row = await rig.row("night:c")
    assert row.error is not None
    assert (rig.calls(), row.error.type) == (0, "invalid_acceptance")
    assert row.error.message == "on_truncated: given 'stop'; allowed: keep, fail or grow"


async def test_a_change_of_the_acceptance_holds_from_the_next_claim(rig: Rig) -> None:
    """A worker reads it again only when it has changed."""
    stopping(rig, max_tokens=1)
    await rig.producer.enqueue_many([{"custom_id": "a", **hello("a")}], batch="night")
    async with rig.working():
        assert (await rig.row("night:a")).status is JobState.SUCCEEDED
        await rig.producer.batch("night").accept(on_truncated="fail")
        await rig.producer.enqueue_many([{"custom_id": "b", **hello("b")}], batch="night")
        assert (await rig.row("night:b")).status is JobState.FAILED
        await rig.producer.batch("night").accept(on_truncated="keep")
        await rig.producer.enqueue_many([{"custom_id": "c", **hello("c")}], batch="night")
        assert (await rig.row("night:c")).status is JobState.SUCCEEDED


async def test_a_turn_waits_for_a_store_that_is_away(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the spool meanwhile, and its job is not released: no turn is bought twice."""
    stopping(rig, pause_turn=1)
    real, times = rig.store.record_turns, iter(range(3))

    async def away(group: list[Turn]) -> None:
        if next(times, None) is not None:
            raise StoreUnavailableError
        await real(group)

    monkeypatch.setattr(rig.store, "record_turns", away)
    (row,) = await ran(rig)
    assert (row.status, rig.calls()) == (JobState.SUCCEEDED, row.turns + 1)
    assert rig.events_of(StoreBack)
