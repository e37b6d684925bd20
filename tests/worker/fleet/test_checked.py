"""Outputs are checked before they are results: by a schema, and by functions of the operator."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from pydantic import BaseModel

from nightmill.records.message import is_null
from nightmill.records.state import JobState
from tests.rig import Rig, hello, rigged, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nightmill.records.result import Result

FOLDER = Path(__file__).parents[1] / "checks"
NAMES = ("short", "raises", "hangs", "dies")
CHECKS = ",".join([*(f"{name}=operator_checks:{name}" for name in NAMES), "gone=not_there:check"])


class Review(BaseModel):
    """What the tests ask for."""

    label: str
    stars: int


SCHEMA = Review.model_json_schema()


@pytest.fixture
async def rig(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    """Return a rig whose workers have checks, and whose endpoint answers with reviews."""
    monkeypatch.setenv("PYTHONPATH", f"{FOLDER}:{os.environ.get('PYTHONPATH', '')}")
    async with rigged(redis_url, tmp_path, checks=CHECKS, check_timeout_s=5, canary=0) as made:
        made.sim.configure(schema=msgspec.json.encode(SCHEMA).decode())
        yield made


async def ran(
    rig: Rig, count: int = 1, *, model: type | None = None, **accept: object
) -> list[Result]:
    """Run a batch to its end; return its rows."""
    batch = rig.producer.batch("night", schema=model)
    await batch.accept(**accept)  # type: ignore[arg-type]
    requests = [{"custom_id": f"c{i}", **hello(f"number {i}")} for i in range(count)]
    await rig.producer.enqueue_many(requests, batch="night")
    await rig.work_off()
    rows = [row async for row in batch.results()]
    assert len(rows) == count
    return rows


async def test_outputs_that_fit_are_results_and_read_as_instances(rig: Rig) -> None:
    """A JSON answer was never checked: a third of a data set could not be read."""
    rows = await ran(rig, 5, model=Review, schema=SCHEMA)
    assert {row.status for row in rows} == {JobState.SUCCEEDED}
    assert [row.parsed for row in rows] == [Review(label="mill", stars=1)] * 5
    assert (await rig.producer.result("night:c0")).parsed == Review(label="mill", stars=1)
    plain = [row.parsed async for row in rig.producer.batch("night", schema=SCHEMA).results()]
    assert plain == [{"label": "mill", "stars": 1}] * 5


async def test_what_does_not_pass_is_asked_again_with_what_is_wrong(rig: Rig) -> None:
    """The model corrects most mistakes when it is told."""
    rig.sim.configure(invalid=0.5)
    rows = await ran(rig, 60, schema=SCHEMA, check_retries=20)
    assert {row.status for row in rows} == {JobState.SUCCEEDED}
    assert all(row.parsed == {"label": "mill", "stars": 1} for row in rows)
    again = [row for row in rows if row.turns]
    assert 15 < len(again) < 45
    first = again[0].attempts[0]
    assert (first.outcome, first.error_type, first.counted) == (
        "continued",
        "invalid_output",
        False,
    )
    assert first.answer
    assert sum(row.usage.output_tokens for row in rows) == rig.sim.ledger.billed["output_tokens"]


async def test_after_its_retries_a_job_fails_with_all_answers_kept(rig: Rig) -> None:
    """Asking for ever would cost without end."""
    rig.sim.configure(invalid=1)
    (row,) = await ran(rig, schema=SCHEMA, check_retries=2, check_reask="same")
    assert (row.status, row.turns, row.parsed) == (JobState.FAILED, 2, None)
    assert row.error is not None
    assert row.error.type == "invalid_output"
    assert "expected" in row.error.message
    assert row.message is not None
    assert [is_null(each.answer) for each in row.attempts] == [False, False, True]
    assert rig.sim.ledger.totals.answered == 3


async def test_an_operators_function_gets_message_and_row(rig: Rig) -> None:
    """What is wrong with an output often depends on the row."""
    (row,) = await ran(rig, schema=SCHEMA, check="short", check_retries=0)
    assert (row.status, row.parsed) == (JobState.SUCCEEDED, {"label": "mill", "stars": 1})
    await rig.producer.enqueue({**hello("x")}, batch="night", custom_id="b")
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "label": {"const": "far too long"}}}
    rig.sim.configure(schema=msgspec.json.encode(schema).decode())
    await rig.work_off()
    bad = await rig.row("night:b")
    assert bad.error is not None
    assert bad.error.type == "invalid_output"
    assert bad.error.message.startswith("b: far too long is too long")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("raises", "check 'raises': it raised KeyError: 'price'"),
        ("dies", "check 'dies': its process died 2 times (killed by SIGSEGV)"),
    ],
)
async def test_a_faulty_function_costs_no_answer(rig: Rig, name: str, fault: str) -> None:
    """The answer is paid for: it stays in the row, and is not bought again."""
    (row,) = await ran(rig, schema=SCHEMA, check=name)
    assert (row.status, row.turns) == (JobState.FAILED, 0)
    assert row.error is not None
    assert (row.error.type, row.error.message) == ("check_failed", fault)
    assert row.text == '{"label":"mill","stars":1}'
    assert rig.sim.ledger.totals.answered == 1


@pytest.mark.parametrize(
    ("check", "why"),
    [
        ("other", "no check 'other' in the worker's setting CHECKS"),
        ("gone", "ModuleNotFoundError: No module named 'not_there'"),
    ],
)
async def test_a_worker_without_the_check_makes_no_call(rig: Rig, check: str, why: str) -> None:
    """Every answer was paid for, and none could be checked."""
    (row,) = await ran(rig, check=check)
    assert row.error is not None
    assert row.error.type == "check_missing"
    assert why in row.error.message
    assert rig.sim.ledger.totals.calls == 0


async def test_a_schema_that_another_program_wrote_is_refused_before_a_call(rig: Rig) -> None:
    """Only this client checks a schema before it is stored."""
    await rig.redis.execute_command(
        *("HSET", "nightmill:batch:night", "accept", '{"schema":{"$ref":"http://a/"}}'),
        *("accept_id", "1"),
    )
    (row,) = await ran(rig, check_retries=1)
    assert row.error is not None
    assert row.error.type == "check_missing"
    assert "$ref: given" in row.error.message
    assert rig.sim.ledger.totals.calls == 0


async def test_a_structured_request_keeps_the_hash_of_what_the_user_sent(rig: Rig) -> None:
    """The same file is fed again: its rows must be found."""
    rig.sim.configure(schema=None)
    (row,) = await ran(rig, schema=SCHEMA, structured=True)
    assert (row.status, row.parsed) == (JobState.SUCCEEDED, {"label": "mill", "stars": 1})
    assert row.params is not None
    assert b"output_config" not in bytes(row.params)
    await rig.producer.enqueue(hello("number 0"), job_id="plain")
    rig.sim.configure(schema=None)
    await rig.work_off()
    assert (await rig.row("plain")).request_hash == row.request_hash


async def test_an_answer_that_is_checked_outlives_a_shutdown(rig: Rig) -> None:
    """Its job was given back without the answer, which was bought again by the next worker."""
    await rig.producer.batch("night").accept(check="hangs")
    await rig.producer.enqueue_many([{"custom_id": "c", **hello("x")}], batch="night")
    async with rig.working(check_timeout_s=2) as worker:
        await until(lambda: any(job.ended_s for job in worker.registry.held(["night:c"])))
    row = await rig.store.get("night:c")
    assert row is not None
    assert row.message is not None
    await rig.work_off()
    assert rig.calls() == 1


async def test_an_output_that_max_tokens_cut_says_so(rig: Rig) -> None:
    """Its user changed the prompt again and again."""
    long = {"type": "object", "properties": {"text": {"const": "word " * 200}}}
    rig.sim.configure(schema=msgspec.json.encode(long).decode())
    (row,) = await ran(rig, schema=SCHEMA, check_retries=0)
    assert row.error is not None
    assert row.error.type == "invalid_output"
    assert row.error.message == "the JSON is not valid: it ends too early; expected one whole value"
    assert row.error.fix is not None
    assert "raise it, or use --on-truncated grow" in row.error.fix
