"""OutputChecks: schema and operator's functions, which end no worker and cost no answer."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill.errors import SettingsError
from nightmill.records.acceptance import Acceptance, acceptance
from nightmill.settings import Settings, load_settings
from nightmill_worker.checks import output_checks
from nightmill_worker.checks.messages import Verdict
from nightmill_worker.checks.output_checks import OutputChecks
from tests.rig import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SCHEMA = {"type": "object", "required": ["label"]}
NAMES = (
    "short",
    "later",
    "noisy",
    "raises",
    "half_characters",
    "exits",
    "odd",
    "dies",
    "dies_once",
    "hangs",
)
MORE = "NO_FUNCTION=operator_checks:NO_FUNCTION none=operator_checks:none away=not_there:check"
CHECKS = " ".join([*(f"{name}=operator_checks:{name}" for name in NAMES), MORE])


def message(text: str) -> bytes:
    """Return an answer."""
    return msgspec.json.encode({"content": [{"type": "text", "text": text}]})


def asked(check: str | None = None, schema: object = SCHEMA) -> Acceptance:
    """Return what a batch accepts."""
    return acceptance(schema=schema, check=check)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings whose functions are in this folder."""
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}")
    return load_settings(checks=CHECKS, check_timeout_s=20)


@pytest.fixture
async def checks(settings: Settings) -> AsyncIterator[OutputChecks]:
    """Return the checks of a worker."""
    made = OutputChecks(settings)
    yield made
    await made.close()


async def test_the_schema_is_looked_at_before_the_function(checks: OutputChecks) -> None:
    """A function may rely on the shape of the output."""
    row = {"custom_id": "r7"}
    good = message('Sure: {"label": "pos"}')
    assert await checks.verdict(good, asked(), row) == Verdict()
    assert await checks.verdict(good, asked("short"), row) == Verdict()
    assert await checks.verdict(good, asked("later"), row) == Verdict()
    assert await checks.verdict(good, asked("noisy"), row) == Verdict()
    long = await checks.verdict(message('{"label": "much too long"}'), asked("short"), row)
    assert long == Verdict(problem="r7: much too long is too long")
    missing = await checks.verdict(message("{}"), asked("short"), row)
    assert missing.problem.startswith("$: given an object without")
    plain = await checks.verdict(message("much too long"), asked("short", None), row)
    assert plain.problem == "r7: much too long is too long"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("raises", "check 'raises': it raised KeyError: 'price'"),
        ("exits", "check 'exits': it raised SystemExit: 3"),
        ("odd", "check 'odd': it returned bool; expected None or a text"),
        ("dies", "check 'dies': its process died 2 times (killed by SIGSEGV)"),
    ],
)
async def test_a_faulty_function_is_a_fault_and_no_problem_of_the_answer(
    checks: OutputChecks, name: str, fault: str
) -> None:
    """A crash in a function ended the worker, or the model was asked again for nothing."""
    good = message('{"label": "pos"}')
    assert await checks.verdict(good, asked(name), {"custom_id": "a"}) == Verdict(fault=fault)
    assert await checks.verdict(good, asked("short"), {"custom_id": "a"}) == Verdict()


async def test_half_a_surrogate_pair_in_a_problem_ends_no_process(checks: OutputChecks) -> None:
    """A function that quotes the answer may return it; the job failed with check_failed."""
    verdict = await checks.verdict(message('{"label": 1}'), asked("half_characters"), {})
    assert (verdict.fault, verdict.problem[:4]) == ("", "not ")


async def test_a_process_that_dies_by_chance_gets_the_answer_again(
    checks: OutputChecks, tmp_path: Path
) -> None:
    """The kernel may kill it for memory."""
    row = {"params": {"mark": str(tmp_path / "mark")}}
    assert await checks.verdict(message('{"label": "pos"}'), asked("dies_once"), row) == Verdict()


async def test_a_function_that_hangs_is_killed(settings: Settings, tmp_path: Path) -> None:
    """Its job, and later ones, waited for ever."""
    checks = OutputChecks(settings.model_copy(update={"check_timeout_s": 0.5}))
    row = {"params": {"mark": str(tmp_path / "mark")}}
    verdict = await checks.verdict(message('{"label": "pos"}'), asked("hangs"), row)
    assert verdict == Verdict(fault="check 'hangs': it took more than 0.5 s")
    pid = int((tmp_path / "mark").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await checks.close()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("short", ""),
        ("other", "no check 'other' in the worker's setting CHECKS; there are: NO_FUNCTION, away"),
        ("away", "not_there:check: ModuleNotFoundError: No module named 'not_there'"),
        ("none", "AttributeError: module 'operator_checks' has no attribute 'none'"),
        ("NO_FUNCTION", "operator_checks:NO_FUNCTION: it is no function"),
    ],
)
async def test_a_check_that_is_not_there_is_known_before_a_call(
    checks: OutputChecks, name: str, why: str
) -> None:
    """The answer was paid for, and then there was nothing to check it with."""
    found = await checks.missing(asked(name))
    assert why in found
    assert bool(why) == bool(found)


async def test_a_large_answer_is_checked_apart(
    checks: OutputChecks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer of 32 MB kept the event loop from renewing leases."""
    data = message('{"label": "' + "x" * output_checks.LARGE + '"}')
    monkeypatch.setattr(output_checks, "by_schema", None)  # it would raise here
    assert await checks.verdict(data, asked(), {}) == Verdict()
    many = message("[" + "1," * output_checks.LARGE + "1]")
    assert (await checks.verdict(many, asked(), {})).problem.startswith("$: given [1, 1,")


async def test_a_schema_that_cannot_be_used_is_a_fault(checks: OutputChecks) -> None:
    """Another program wrote it to Redis: it ended the worker."""
    bad = asked(schema={"$ref": "http://a/b"})
    verdict = await checks.verdict(message("{}"), bad, {})
    assert verdict.fault.startswith("the schema of the batch cannot be used: $ref")


@pytest.mark.parametrize("given", ["short", "a=b", "a=b:c,d", "a b=c:d", '{"a": 1}', "a=os;ls:x"])
def test_checks_that_cannot_be_read_are_refused(given: str) -> None:
    """A worker started without the check, and failed every job later."""
    with pytest.raises(SettingsError, match="CHECKS"):
        load_settings(checks=given)


async def test_small_answers_do_not_wait_for_a_process(checks: OutputChecks) -> None:
    """A hung function must not hold back the batches that have none."""
    started = time.monotonic()
    assert await checks.verdict(message('{"label": 1}'), asked(), {}) == Verdict()
    assert time.monotonic() - started < 0.5


@pytest.mark.usefixtures("settings")
async def test_a_check_process_ends_with_its_worker(tmp_path: Path) -> None:
    """A worker that was killed left a process behind that used a core for ever."""
    mark = tmp_path / "mark"
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, str(mark))
    await until(lambda: mark.exists() and mark.read_text() != "")
    worker.kill()
    await worker.wait()
    await until(lambda: _is_gone(int(mark.read_text())))


WORKER = """
import asyncio, sys
from nightmill.records.acceptance import acceptance
from nightmill.settings import load_settings
from nightmill_worker.checks.output_checks import OutputChecks

checks = OutputChecks(load_settings(checks="stuck=operator_checks:stuck"))
row = {"params": {"mark": sys.argv[1]}}
asyncio.run(checks.verdict(b'{"content": []}', acceptance(check="stuck"), row))
"""


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True
