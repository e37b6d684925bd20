"""A shell as a person has it: a folder, an environment, and the commands typed there."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeAlias
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import ConnectionError as NoRedisError

from nightmill.queue import keys
from nightmill.queue.connection import embedded_socket

NIGHTMILL: Final = Path(sys.executable).with_name("nightmill")
PATIENCE_S: Final = 45.0
MODEL: Final = "claude-opus-4-6"
Process: TypeAlias = subprocess.Popen[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Shell:
    """Runs `nightmill` in a folder of its own, without the environment of whoever tests it."""

    def __init__(self, folder: Path, **env: str) -> None:
        """Take the working directory and the NIGHTMILL_* variables, without their prefix."""
        self.folder = folder
        self.data = folder / ".nightmill"
        ours = ("NIGHTMILL_", "ANTHROPIC_", "PYTHON")  # PYTHONUNBUFFERED hides a missing flush
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        self.export(lease_s="2", grace_s="10", **env)

    def export(self, **env: str) -> None:
        """Set NIGHTMILL_* variables for all commands to come."""
        self.env |= {f"NIGHTMILL_{name.upper()}": value for name, value in env.items()}

    def __call__(
        self, *args: str, given: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> Done:
        """Run a command to its end; `given` is its standard input, `env` is for it alone."""
        done = subprocess.run(
            [NIGHTMILL, *args],
            cwd=self.folder,
            env={**self.env, **(env or {})},
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
        )
        told = Done(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())
        assert "Traceback" not in told.err, told.err
        return told

    def python(self, script: str) -> str:
        """Run a script of a producer there; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        )
        return done.stdout

    @contextmanager
    def started(self, *args: str, stdin: int | IO[str] = subprocess.DEVNULL) -> Iterator[Process]:
        """Start a command in a session of its own; it does not outlive the block."""
        process = subprocess.Popen(
            [NIGHTMILL, *args],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def write(self, count: int, name: str = "prompts.jsonl", **fields: object) -> str:
        """Write a file of prompts and return its name."""
        rows = [{"custom_id": f"c{i}", **prompt(i), **fields} for i in range(count)]
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return name

    def rows(self, name: str = "prompts.results.jsonl") -> list[dict[str, object]]:
        """Return the lines of a results file."""
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def status(self, batch: str = "prompts") -> dict[str, object]:
        """Return what `status --json` says."""
        told = self("status", batch, "--json")
        assert told.code == 0, told.err
        found: dict[str, object] = json.loads(told.out)
        return found

    def queued(self, batch: str) -> int:
        """Return how many jobs of a batch wait in the embedded server: sooner told than asked."""
        socket = embedded_socket(self.data)
        if not socket.is_socket():
            return 0
        with suppress(NoRedisError), Redis(unix_socket_path=str(socket)) as client:
            return int(client.zcard(keys.batch_queue(batch, MODEL)))
        return 0

    def pids(self, *words: str) -> list[int]:
        """Return the processes of this folder that have `words` in their command line."""
        return [
            pid
            for pid, command, env in _processes()
            if str(self.folder) in command + env and all(word in command for word in words)
        ]

    def assert_nothing_runs(self) -> None:
        """Fail if a process of this folder is left; those that are leaving get their time."""
        until(lambda: not self.pids())


def prompt(number: int) -> dict[str, object]:
    """Return the request of a line, small and its own."""
    return {"prompt": f"prompt number {number}", "max_tokens": 20}


def _processes() -> Iterator[tuple[int, str, str]]:
    """Yield (pid, command line, working directory and environment) of every process."""
    for home in Path("/proc").iterdir():
        if not home.name.isdigit() or int(home.name) == os.getpid():
            continue
        with suppress(OSError):  # it ended, or it is another user's
            command = (home / "cmdline").read_bytes().decode(errors="replace")
            env = (home / "environ").read_bytes().decode(errors="replace")
            if command:  # a zombie has none
                yield int(home.name), command, f"{(home / 'cwd').readlink()}\0{env}"


def until(true: Callable[[], object]) -> None:
    """Wait for what other processes do."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def finish(process: Process, code: int) -> Done:
    """Wait for a command's end, which must be `code`."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, err
    assert "Traceback" not in err, err
    return Done(code=code, out=out, err=err)


class Endpoint:
    """A `nightmill simulate` in a process of its own, and its admin routes."""

    def __init__(self, url: str) -> None:
        """Take where it listens."""
        self.url = url

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> object:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body))
            reply = connection.getresponse()
            assert reply.status == 200
            return json.loads(reply.read())
        finally:
            connection.close()

    def calls(self) -> dict[str, dict[str, int]]:
        """Return how often each prompt was called, answered, refused, abandoned."""
        told = self._ask("GET", "/admin/calls")
        assert isinstance(told, dict)
        found: dict[str, dict[str, int]] = told["prompts"]
        return found

    def answered(self) -> list[int]:
        """Return how often each prompt that was called was answered."""
        return [counts["answered"] for counts in self.calls().values()]

    def configure(self, **changes: object) -> None:
        """Change how it is."""
        self._ask("POST", "/admin/config", changes)

    def reset(self) -> None:
        """Forget all counts."""
        self._ask("POST", "/admin/reset", {})


def slowly(shell: Shell, endpoint: Endpoint) -> None:
    """Let calls take long enough for something to happen: 100 answers a second."""
    shell.export(max_in_flight="25")
    endpoint.configure(latency_s=0.25)


@contextmanager
def simulated(folder: Path) -> Iterator[Endpoint]:
    """Run the simulator for the length of a block."""
    with Shell(folder).started("simulate", "--port", "0", "--latency", "0.1") as process:
        assert process.stdout is not None
        yield Endpoint(process.stdout.readline().split()[4])
        process.send_signal(signal.SIGINT)
        finish(process, 0)
