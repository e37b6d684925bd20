"""What a small run loads: every module costs time before the first call."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nightmill_worker.queue.scripts import NAMES
from tests.integration.shell import Endpoint, Shell, finish, slowly, until

WORKERS = {"arq", "genai_prices", "httptools", "structlog", "uvloop", "yarl"}
"""What a worker process needs of those."""
LIGHT = {"redis", "pydantic"}
"""What commands need that read settings and ask Redis."""
HEAVY = {
    *("aiohttp", "alembic", "arq", "asyncpg", "genai_prices", "httptools", "jinja2"),
    *("pyarrow", "pygments", "rich", "sqlalchemy", "structlog", "uvloop", "valkey", "yarl"),
}
BEFORE_REDIS = (
    *("nightmill.cli.app", "nightmill.cli.checking", "nightmill.enqueue.prepare"),
    *("nightmill.export.outputs", "nightmill_worker.cli.places", "nightmill_worker.cli.run"),
    *("nightmill_worker.machine.embedded", "nightmill_worker.machine.serving"),
)
"""What `run` imports before it starts the embedded server."""
TIMED = {"PYTHONPROFILEIMPORTTIME": "1"}
"""Makes Python print each import on stderr."""


def loaded(stderr: str) -> set[str]:
    """Return the packages of which a process imported a module; a failed import is printed, too."""
    return set(re.findall(r"^import time:.*\|\s*(\w+)\.[\w.]+$", stderr, flags=re.MULTILINE))


@pytest.mark.parametrize("command", ["--help", "run --help", "status --help", "--version"])
def test_help_loads_no_library_but_that_of_its_texts(shell: Shell, command: str) -> None:
    """It is used often and must be fast. typer itself checks the types of options by pydantic."""
    found = loaded(shell(*command.split(), env=TIMED).err)
    assert "typer" in found
    assert found & (HEAVY | LIGHT) <= ({"pydantic"} if " " in command else set())


@pytest.mark.usefixtures("endpoint")
def test_commands_load_what_they_need(shell: Shell) -> None:
    """A run of three prompts took 1.4 s to its first call, and imports were nearly all of that."""
    run = shell("run", shell.write(3), env=TIMED)
    assert run.code == 0
    assert loaded(run.err) & HEAVY == set()
    assert loaded(run.err) >= LIGHT
    worker = loaded((shell.data / "worker.log").read_text())
    assert "httptools" in worker
    assert worker & (HEAVY - WORKERS) == set()
    for command in ("status", "results prompts", "errors prompts", "verify prompts"):
        done = shell(*command.split(), env=TIMED)
        assert done.code == 0
        assert loaded(done.err) & (HEAVY - {"rich"}) == set(), command


def at_exit(shown: str, *arguments: str) -> str:
    """Return an expression as a command has it when it ends."""
    code = f"import atexit, gc, sys; atexit.register(lambda: print({shown}))\n"
    code += "from nightmill.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.splitlines()[-1]


def test_a_worker_is_started_before_the_command_reads_its_options() -> None:
    """Its imports take longest, so they begin first."""
    imported = at_exit("*sys.modules", "run", "missing.jsonl").split()
    assert imported.index("nightmill_worker.machine.ahead") < imported.index("typer")


def test_a_command_ends_without_a_search_for_garbage() -> None:
    """It took 0.06 s of each command, for memory that the system takes back."""
    assert int(at_exit("gc.get_freeze_count()", "--version")) > 0


def imported_by(*modules: str) -> set[str]:
    """Return the packages that the import of modules brings."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(modules)}"],
        env=os.environ | TIMED,
        check=True,
        capture_output=True,
        text=True,
    )
    return loaded(done.stderr)


def test_the_embedded_server_starts_before_its_client_is_imported() -> None:
    """Each of the two takes 0.05 s, and they do not need each other."""
    assert "redis" not in imported_by(*BEFORE_REDIS)


def test_a_worker_without_settings_has_done_what_needs_none() -> None:
    """It waits for them for 0.05 s, in which structlog and the scripts take 0.02 s."""
    code = "import sys; from nightmill_worker.machine import process\n"
    code += "process.main(supervised=True)\n"
    code += "from nightmill_worker.queue.lua_source import source\n"
    code += "print('structlog' in sys.modules, source.cache_info().currsize)"
    ours, theirs = socket.socketpair()
    ours.close()  # so no settings come
    with theirs:
        command = [sys.executable, "-c", code]
        given = theirs.fileno()
        done = subprocess.run(command, stdin=given, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", f"{len(NAMES)}"]


def test_a_store_that_is_current_needs_no_migration_library(shell: Shell) -> None:
    """Alembic and SQLAlchemy are for stores of earlier versions."""
    for _ in range(2):
        done = shell("enqueue", shell.write(3), "--batch", "night", env=TIMED)
        assert loaded(done.err) & {"alembic", "sqlalchemy"} == set()


def test_a_worker_that_is_started_ahead_ends_with_a_refused_run(shell: Shell) -> None:
    """It waits for settings that never come."""
    assert shell("run", "missing.jsonl", "--simulate").code == 2
    shell.assert_nothing_runs()


def test_a_worker_gets_its_credential_over_its_socket(shell: Shell, endpoint: Endpoint) -> None:
    """Other programs of this user can read the environment of a process."""
    slowly(shell, endpoint)
    with shell.started("run", shell.write(200)) as run:
        until(endpoint.answered)
        (worker,) = shell.pids("nightmill_worker.machine.process")
        given = (Path("/proc") / str(worker) / "environ").read_bytes()
        endpoint.configure(latency_s=0)
        finish(run, 0)
    assert b"PATH=" in given
    assert b"NIGHTMILL_" not in given
