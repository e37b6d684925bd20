"""Back up Redis and the store in the middle of a run, destroy both, restore them, and go on.

The commands are those of docs/operations.md, Backup and restore.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.integration.shell import Endpoint, Shell, finish, slowly, until
from tests.postgres import BIN, Postgres, postgres
from tests.redis_servers import Server, ended, wait_until

JOBS = 240


class SQLite:
    """The store in DATA_DIR."""

    def __init__(self, shell: Shell) -> None:
        """Take the shell whose commands use it."""
        self._path = shell.data / "results.db"

    def back_up(self, to: Path) -> None:
        """Copy a consistent state, while workers write."""
        with closing(sqlite3.connect(self._path)) as db:
            db.execute("VACUUM INTO ?", (str(to),))

    def destroy(self) -> None:
        """Lose the disk."""
        shutil.rmtree(self._path.parent)

    def restore(self, backup: Path) -> None:
        """Put the copy where the store was."""
        self._path.parent.mkdir()
        shutil.copy(backup, self._path)


class PostgreSQL:
    """A database of a server."""

    def __init__(self, shell: Shell, server: Postgres) -> None:
        """Make it, and let the shell use it."""
        self._url = server.create("backed_up")
        self._admin = server.url
        shell.export(store_url=self._url)

    def back_up(self, to: Path) -> None:
        """Dump it while workers write."""
        subprocess.run([BIN / "pg_dump", "-Fc", "-f", to, self._url], check=True)

    def destroy(self) -> None:
        """Drop the database, and leave an empty one."""
        for statement in ("DROP DATABASE backed_up WITH (FORCE)", "CREATE DATABASE backed_up"):
            subprocess.run([BIN / "psql", "-q", "-c", statement, self._admin], check=True)

    def restore(self, backup: Path) -> None:
        """Read the dump."""
        subprocess.run([BIN / "pg_restore", "-d", self._url, backup], check=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, shell: Shell) -> Iterator[SQLite | PostgreSQL]:
    """Return the store of the shell."""
    if request.param == "sqlite":
        yield SQLite(shell)
        return
    with postgres() as server:
        yield PostgreSQL(shell, server)


def back_up_redis(server: Server, to: Path) -> None:
    """Let Redis write its state into a file, and copy that."""
    with server.client() as client:
        before = client.lastsave()
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_bgsave_in_progress"] == 0)
        assert client.lastsave() >= before
    shutil.copy(server.log.parent / "dump.rdb", to)


def restore_redis(stack: ExitStack, backup: Path, folder: Path, port: int) -> Server:
    """Start Redis with the copy. With its append-only file on, it would not read the copy."""
    folder.mkdir()
    shutil.copy(backup, folder / "dump.rdb")
    server = stack.enter_context(ended(Server(folder, "--appendonly", "no", port=port)))
    wait_until(server.answers)
    with server.client() as client:
        client.config_set("appendonly", "yes")
        wait_until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0)
    return server


def answered(endpoint: Endpoint) -> dict[str, int]:
    """Return prompt -> its answers."""
    return {prompt: counts["answered"] for prompt, counts in endpoint.calls().items()}


def test_a_restored_backup_goes_on(
    shell: Shell,
    endpoint: Endpoint,
    store: SQLite | PostgreSQL,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Nothing is lost. What the backup of the store has is not called again."""
    folder = tmp_path_factory.mktemp("backup")
    slowly(shell, endpoint)
    with ExitStack() as stack:
        redis = stack.enter_context(ended(Server(folder / "redis", "--appendonly", "yes")))
        wait_until(redis.answers)
        shell.export(redis_url=redis.url)
        with shell.started("worker") as worker:
            assert shell("enqueue", shell.write(JOBS)).code == 0
            until(reached(endpoint, JOBS // 4))
            back_up_redis(redis, folder / "redis.rdb")  # first Redis, then the store
            until(reached(endpoint, JOBS // 3))
            known = answered(endpoint)
            until(lambda: int(str(shell.status()["succeeded"])) >= sum(known.values()))
            store.back_up(folder / "store")
            until(reached(endpoint, JOBS * 2 // 3))
            worker.kill()
            redis.kill()
        until(lambda: not shell.pids("nightmill_worker"))
        shutil.rmtree(folder / "redis")
        store.destroy()

        store.restore(folder / "store")
        restore_redis(stack, folder / "redis.rdb", folder / "again", redis.port)
        with shell.started("worker") as worker:
            waited = shell("wait", "prompts")
            assert waited.code == 0, waited.err
            status = shell.status()
            worker.send_signal(signal.SIGTERM)
            finish(worker, 0)
        assert (status["total"], status["succeeded"]) == (JOBS, JOBS)
        assert shell("results", "prompts", "-o", "out.jsonl").code == 0
        # Redis did not count what ended between the two backups; status and wait count the rows.
        verified = shell("verify", "prompts", "--source", "prompts.jsonl").out
        assert f"({JOBS} stored, 0 not finished)" in verified
        assert "missing" not in verified
    rows = shell.rows("out.jsonl")
    assert len({row["custom_id"] for row in rows}) == len(rows) == JOBS
    calls = answered(endpoint)
    assert len(calls) == JOBS
    assert [prompt for prompt in known if calls[prompt] != 1] == []
    assert max(calls.values()) <= 2  # answers that came after the backup of the store


def reached(endpoint: Endpoint, number: int) -> Callable[[], bool]:
    """Return whether the endpoint has given so many answers."""
    return lambda: sum(endpoint.answered()) >= number
