"""The examples, unchanged, on a machine without Redis, database or credential."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Final

import asyncpg
import pytest
from redis.exceptions import RedisError

from nightmill.queue.connection import connect
from tests.integration.shell import PATIENCE_S, Done, Process, Shell, finish
from tests.postgres import postgres
from tests.rig import until

EXAMPLES: Final = Path(__file__).parents[2] / "examples"


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Shell]:
    """Return a shell in an empty folder without settings; no process may run at the end."""
    shell = Shell(tmp_path)
    yield shell
    shell.assert_nothing_runs()


@contextmanager
def started(shell: Shell, name: str, *args: str) -> Iterator[Process]:
    """Start an example; kill it at the end of the block if it runs."""
    with subprocess.Popen(
        [sys.executable, EXAMPLES / name, *args],
        cwd=shell.folder,
        env=shell.env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def run(shell: Shell, name: str, *args: str) -> Done:
    """Run an example to its end; its exit code must be 0."""
    with started(shell, name, *args) as process:
        return finish(process, 0)


def test_a_dataset_is_generated_and_a_second_run_pays_nothing(bare: Shell) -> None:
    """Each pair is in the JSON Lines output once."""
    assert "96 new\n96 pairs in dataset.jsonl, 0 missing" in run(bare, "dataset.py").err
    rows = bare.rows("dataset.jsonl")
    assert len({(row["topic"], row["level"], row["kind"]) for row in rows}) == 96
    assert all(row["text"] for row in rows)
    assert "0 new\n96 pairs" in run(bare, "dataset.py").err


async def test_the_redis_of_an_example_is_started_again_when_it_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services copy this file: with_redis alone left them without a server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("NIGHTMILL_REDIS_URL", "NIGHTMILL_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    from local_fleet import local_fleet  # noqa: PLC0415 - a script beside the tests

    async with local_fleet() as settings, aclosing(connect(settings)) as redis:
        died = (await redis.info("server"))["process_id"]
        os.kill(died, signal.SIGKILL)

        async def again() -> bool:
            with suppress(RedisError, OSError):
                return bool((await redis.info("server"))["process_id"] != died)
            return False

        await until(again)


def test_the_backfill_makes_a_table_of_its_own(bare: Shell) -> None:
    """Without an address, the example starts a PostgreSQL itself."""
    assert run(bare, "backfill.py").err == "100 documents without a summary\nall done\n"


def test_a_table_is_backfilled_once(bare: Shell) -> None:
    """Existing summaries stay; a stored result that was not written back costs no call."""
    with postgres() as server:
        table = "CREATE TABLE documents (id bigint, body text, summary text)"
        asyncio.run(in_database(server.url, table))
        rows = "INSERT INTO documents VALUES (1, 'a', 'kept'), (2, 'b', NULL), (3, 'c', NULL)"
        asyncio.run(in_database(server.url, rows))
        assert run(bare, "backfill.py", server.url).err.startswith("2 documents")
        first = asyncio.run(in_database(server.url))
        assert first[1] == "kept"
        assert all(first.values())
        asyncio.run(in_database(server.url, "UPDATE documents SET summary = NULL WHERE id = 2"))
        changed = "UPDATE documents SET body = 'new', summary = NULL WHERE id = 3"
        asyncio.run(in_database(server.url, changed))
        assert run(bare, "backfill.py", server.url).err.startswith("2 documents")
        second = asyncio.run(in_database(server.url))
    assert {n: second[n] == first[n] for n in first} == {1: True, 2: True, 3: False}
    stored = json_lines(bare("results", "backfill@rehearsal", "--data-dir", "rehearsal"))
    assert len(stored) == 3  # two of the first run, one of the changed document


async def in_database(dsn: str, command: str | None = None) -> dict[int, str]:
    """Run `command`, if any, in a database; return id -> summary."""
    database = await asyncpg.connect(dsn)
    try:
        if command:
            await database.execute(command)
        rows = await database.fetch("SELECT id, summary FROM documents")
        return {row["id"]: row["summary"] for row in rows}
    finally:
        await database.close()


def json_lines(done: Done) -> list[dict[str, object]]:
    """Return the JSON lines that a command printed."""
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def request(
    port: int, method: str, path: str, body: str = "", **headers: str
) -> tuple[int, object]:
    """Send a request; return its status and its JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    named: Mapping[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body=body.encode(), headers=dict(named))
    reply = connection.getresponse()
    found = json.loads(reply.read())
    connection.close()
    return reply.status, found


def test_a_service_answers_and_stops_cleanly(bare: Shell) -> None:
    """An Idempotency-Key makes one job, errors are statuses, and SIGTERM ends all processes."""
    with started(bare, "service.py", "0") as service:
        assert service.stdout is not None
        running = service.stdout.readline()
        assert "Running on http://127.0.0.1:" in running
        port = int(running.split()[-2].rpartition(":")[2])
        status, first = request(port, "POST", "/summaries", "The tide.", Idempotency_Key="k")
        assert isinstance(first, dict)
        assert status in (200, 202)
        while first["status"] == "running":
            _, first = request(port, "POST", "/summaries", "The tide.", Idempotency_Key="k")
            assert isinstance(first, dict)
        assert first["status"] == "succeeded"
        assert first["summary"]
        again = request(port, "POST", "/summaries", "Another tide.", Idempotency_Key="k")
        assert again == (200, first)
        assert request(port, "GET", f"/summaries/{first['job']}") == (200, first)
        assert request(port, "GET", "/summaries/unknown")[0] == 404
        service.send_signal(signal.SIGTERM)
        finish(service, 0)


def test_reviews_are_labelled_to_a_frame(bare: Shell) -> None:
    """A user's first question: a column for each field, without parsing."""
    out = run(bare, "label.py", "12").out
    head, *rows = out.splitlines()
    assert head.split() == ["id", "text", "sentiment", "about", "complaint"]
    assert len([row for row in rows if row.split()[-1] == "True"]) == 10
    assert rows[-1].split() == ["complaint", "bool"]
