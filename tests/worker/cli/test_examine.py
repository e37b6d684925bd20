"""What `doctor` says of the endpoint, the credential, the store and the clocks."""

from __future__ import annotations

import sqlite3
import time
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web

from nightmill.errors import StoreUnavailableError
from nightmill.settings import Settings, load_settings
from nightmill_worker.cli.examine import _store
from nightmill_worker.cli.examine_endpoint import examine_endpoint
from nightmill_worker.cli.examine_redis import examine_redis
from nightmill_worker.cli.finding import Finding
from tests.worker.messages.endpoint import MESSAGE, serving, settings


def error(kind: str, message: str = "no") -> dict[str, object]:
    """Return the body of an error."""
    return {"type": "error", "error": {"type": kind, "message": message}}


async def examined(status: int, body: object, **headers: str) -> list[Finding]:
    """Return the findings about an endpoint that gives one answer."""

    async def handle(_: web.Request) -> web.Response:
        return web.json_response(body, status=status, headers=headers)

    async with serving(handle) as url:
        return await examine_endpoint(settings(url))


def marks(findings: list[Finding]) -> list[tuple[str, str]]:
    """Return the name of each check, and its mark."""
    mark = {(True, False): "ok", (True, True): "warn", (False, False): "FAIL"}
    return [(each.what, mark[each.ok, each.warns]) for each in findings]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, error("invalid_request_error"), [("endpoint", "ok"), ("credential", "ok")]),
        (401, error("authentication_error"), [("endpoint", "ok"), ("credential", "FAIL")]),
        (407, "who are you", [("endpoint", "ok"), ("credential", "FAIL")]),
        (429, error("rate_limit_error"), [("endpoint", "ok"), ("credential", "warn")]),
        (404, "<p>Not Found", [("endpoint", "FAIL")]),
        (405, error("not_allowed"), [("endpoint", "FAIL")]),
        (403, error("permission_error"), [("endpoint", "FAIL")]),
        (301, "", [("endpoint", "FAIL")]),
        (200, "<p>It works!", [("endpoint", "FAIL")]),
        (200, {**MESSAGE, "role": "assistant", "stop_reason": "x"}, [("endpoint", "warn")]),
        (529, error("overloaded_error"), [("endpoint", "warn")]),
    ],
)
async def test_an_answer_is_told_for_what_it_is(
    status: int, body: object, expected: list[tuple[str, str]]
) -> None:
    """`doctor` said `credential accepted` of a 404 that every job would get."""
    found = await examined(status, body)
    assert marks(found) == expected
    assert all(each.fix for each in found if not each.ok)


async def test_a_refusal_that_is_meant_is_explained() -> None:
    """`answers (400)` looked like a fault."""
    endpoint, _ = await examined(400, error("invalid_request_error"))
    assert endpoint.observed.endswith(
        " answers (a free, deliberately bad request was refused, as it should be)"
    )


async def test_a_clock_that_differs_is_told() -> None:
    """A wait until a date, and the times of rows, go by this machine's clock."""
    late = formatdate(time.time() - 100, usegmt=True)
    *_, clock = await examined(400, error("invalid_request_error"), Date=late)
    assert (clock.what, clock.warns) == ("clock", True)
    assert "s ahead of the endpoint" in clock.observed
    assert 95 <= int(clock.observed.split()[3]) <= 110
    early = formatdate(time.time() + 100, usegmt=True)
    *_, clock = await examined(400, error("invalid_request_error"), Date=early)
    assert "behind the endpoint" in clock.observed


async def test_the_clock_of_redis_is_compared(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deadlines and leases go by the clock of Redis."""
    real = time.time
    assert "clock" not in [each.what for each in await examine_redis(_at(redis_url))]
    monkeypatch.setattr(time, "time", lambda: real() - 60)
    (clock,) = (each for each in await examine_redis(_at(redis_url)) if each.what == "clock")
    assert "behind Redis" in clock.observed


async def test_no_worker_is_a_warning(redis_url: str) -> None:
    """`enqueue` and `wait` would wait for ever."""
    (workers,) = (each for each in await examine_redis(_at(redis_url)) if each.what == "workers")
    assert workers.warns
    assert "nightmill worker" in workers.fix


def _at(redis_url: str) -> Settings:
    return load_settings(redis_url=redis_url)


async def test_a_store_is_named_and_tried_out(tmp_path: Path) -> None:
    """`<ResultStore sqlite:///.nightmill/results.db>, 1 batches` said nothing of writing."""
    where = load_settings(data_dir=tmp_path)
    first, *_ = await _store(where)
    path = tmp_path / "results.db"
    assert first.observed == f"{path} (SQLite), 0 batches, made now, writable"
    first, *_ = await _store(where)
    assert first.observed == f"{path} (SQLite), 0 batches, writable"


async def test_a_store_that_takes_no_rows_fails(tmp_path: Path) -> None:
    """`doctor` only read, and every row of the run waited."""
    where = load_settings(data_dir=tmp_path)
    await _store(where)
    with sqlite3.connect(tmp_path / "results.db") as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailableError, match="locked by another program"):
            await _store(where)
    other.close()
