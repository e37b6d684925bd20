"""docs/wire.md lists every name that is stored or printed for programs, and no other."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nightmill.export.flat import COLUMNS
from nightmill.export.lines import nested
from nightmill.maintenance.verify import Verdict
from nightmill.queue import keys
from nightmill.queue.notices import Notice
from nightmill.queue.stops import HeldLane, Stops
from nightmill.queue.webhooks import Webhook
from nightmill.queue.wire import Envelope
from nightmill.records.acceptance import Acceptance
from nightmill.records.counts import Counts
from nightmill.records.job import Job
from nightmill.records.limits import Limits
from nightmill.records.result import Attempt, Result
from nightmill.records.state import JobState
from nightmill.reports.view import View
from nightmill.store.schema import (
    ACCESS_KEYS,
    AUDIT,
    BATCHES,
    MESSAGE_BATCHES,
    META,
    REQUESTS,
    RESULTS,
    RESULTS_V1,
    SPENT,
    TURNS,
)
from tests.contract.test_docs import table
from tests.rig import Rig, hello, rigged, until

PAGE = "wire.md"
DERIVED = {keys.QUEUE + ":"}
"""Keys that keys.py builds from another name."""


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


def names(cells: Iterable[str]) -> list[str]:
    """Return all names in backquotes in `cells`."""
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def listed(first_column: str) -> list[str]:
    """Return all names in the first column of one table."""
    return names(row[0] for row in table(PAGE, first_column))


def described(first_column: str, name: str) -> list[str]:
    """Return all names in the second cell of the row of `name`."""
    return names(row[1] for row in table(PAGE, first_column) if row[0] == f"`{name}`")


def stored(record: type[msgspec.Struct]) -> list[str]:
    """Return the names under which the fields of `record` are stored."""
    return [field.encode_name for field in msgspec.structs.fields(record)]


def test_every_redis_key_is_listed() -> None:
    """A key that is not listed would be forgotten in a migration or a backup."""
    prefixes = [name.partition("<")[0] for name in listed("key | type")]
    known = {value for name, value in vars(keys).items() if name.isupper() and value}
    assert set(prefixes) == {key for key in known if isinstance(key, str)} | DERIVED


@pytest.mark.parametrize(
    ("heading", "record"),
    [
        ("key", Envelope),
        ("key of `k`", Job),
        ("key of `limits`", Limits),
        ("key of `accept`", Acceptance),
        ("key of `webhook`", Webhook),
        ("key of a notice", Notice),
        ("key of an attempt", Attempt),
    ],
)
def test_the_keys_of_stored_json_are_listed(heading: str, record: type[msgspec.Struct]) -> None:
    """Programs of another version, or in another language, read and write this JSON."""
    assert sorted(listed(heading)) == sorted(stored(record))


def test_the_columns_of_the_tables_are_listed_in_order() -> None:
    """People query the table with SQL."""
    for heading, columns in {
        "column": RESULTS,
        "column of `batches`": BATCHES,
        "column of `meta`": META,
        "column of `spent`": SPENT,
        "column of `turns`": TURNS,
        "column of `access_keys`": ACCESS_KEYS,
        "column of `audit`": AUDIT,
        "column of `message_batches`": MESSAGE_BATCHES,
        "column of `requests`": REQUESTS,
    }.items():
        assert [row[0] for row in table(PAGE, heading)] == [f"`{name}`" for name in columns]


def test_the_columns_of_the_view_are_listed_in_order() -> None:
    """Programs in other languages read it; it must not change."""
    assert listed("column of `results_v1`") == [*RESULTS_V1, "rehearsal"]


def test_the_keys_of_status_are_listed() -> None:
    """Scripts read them with jq."""
    counts = Counts(
        queued=1, reason="r", limits=Limits(weight=2), webhook='{"url": "https://e.com"}'
    )
    lane = HeldLane(account="a", model="m", state="held", reason="403")
    models = {"b": {"m": 1}}
    stops = Stops(accounts={"a": "401"}, lanes=(lane,), known=frozenset("a"), models=models)
    view = View(counts={"b": counts}, only="b", stops=stops, crashes=("c",), troubles=("t",))
    printed = view.to_json()
    assert listed("key of `status --json`") == list(msgspec.json.decode(printed))


def test_the_keys_of_other_commands_are_listed() -> None:
    """The table has one row for each command that prints for programs."""
    result = Result(job_id="j", status=JobState.EXPIRED)
    assert described("command", "verify --json") == ["batch", "holds", *stored(Verdict)]
    rows = {row[0]: names([row[1]]) for row in table(PAGE, "command")}
    assert rows["`results`, JSON Lines"] == list(nested(result))
    assert rows["`results`, flat rows, CSV, Parquet"] == list(COLUMNS)


async def test_the_fields_of_a_batch_and_a_lane_are_listed(rig: Rig) -> None:
    """The fields that one job leaves in Redis, by Lua and by the governor."""
    await rig.producer.enqueue(hello(), batch="night", custom_id="a")
    lane = ""

    async def governed() -> bool:
        nonlocal lane
        lanes = await rig.redis.execute_command("SMEMBERS", keys.LANES)
        lane = keys.LANE + lanes.pop().decode() if lanes else ""
        return bool(lane and await rig.redis.execute_command("HEXISTS", lane, "kept"))

    async with rig.working():
        await until(governed)
        await rig.row("night:a")
    fields = await rig.redis.execute_command("HGETALL", lane)
    parts: dict[str, Any] = {
        name.decode(): msgspec.json.decode(value) for name, value in fields.items()
    }
    for name, part in parts.items():
        known = [key for key in listed(f"key of `{name}`") if "." not in key]
        assert sorted(known) == sorted(part)
    assert set(parts["kept"]["law"]) <= set(described("key of `kept`", "law"))
    flat = await rig.redis.execute_command("HKEYS", keys.BATCH + "night")
    found = {re.sub("^stop:.*", "stop:<reason>", name.decode()) for name in flat}
    found = {re.sub("^wasted:.*", "wasted:<kind>", name) for name in found}
    assert found <= set(listed("field of `nightmill:batch:<batch>`"))
