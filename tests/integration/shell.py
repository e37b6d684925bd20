"""A shell as a person uses it: a folder, an environment, and commands."""

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
from nightmill.queue.embedded import embedded_socket

NIGHTMILL: Final = Path(sys.executable).with_name("nightmill")
PATIENCE_S: Final = 45.0
MODEL: Final = "claude-opus-4-6"
Process: TypeAlias = subprocess.Popen[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


class Shell:
    """Runs `nightmill` in a folder of its own, without the tester's environment variables."""

    def __init__(self, folder: Path, **env: str) -> None:
        """Take the working directory and the NIGHTMILL_* variables, without their prefix."""
        self.folder = folder
        self.data = folder / ".nightmill"
        ours = ("NIGHTMILL_", "ANTHROPIC_", "PYTHON")  # PYTHONUNBUFFERED would hide a missing flush
        self.env = {
            k: v
            for k, v in os.environ.items()
            if k == "PYTHONPATH" or not k.startswith(ours)  # the tests may run from a worktree
        }
        self.export(lease_s="2", grace_s="10", **env)

    def export(self, **env: str) -> None:
        """Set NIGHTMILL_* variables for all later commands."""
        self.env |= {f"NIGHTMILL_{name.upper()}": value for name, value in env.items()}

    def __call__(
        self, *args: str, given: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> Done:
        """Run a command to its end with `given` as its standard input and `env` added for it."""
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
        ended = Done(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())
        assert "Traceback" not in ended.err, ended.err
        return ended

    def python(self, script: str) -> str:
        """Run a Python script there; return what it prints."""
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
        """Start a command in a session of its own; kill it at the end of the block if it runs."""
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

    def patch_workers(self, code: str) -> None:
        """Run `code` in each worker process of later commands, before its own code."""
        folder = self.folder / "patched"
        folder.mkdir(exist_ok=True)
        lines = "".join(f"    {line}\n" for line in code.strip().splitlines())
        condition = "if 'nightmill_worker.machine.process' in sys.orig_argv:"
        (folder / "sitecustomize.py").write_text(f"import sys\n{condition}\n{lines}")
        self.env["PYTHONPATH"] = f"{folder}:{self.env.get('PYTHONPATH', '')}"

    def write(self, count: int, name: str = "prompts.jsonl", **fields: object) -> str:
        """Write a file of prompts and return its name."""
        rows = [{"custom_id": f"c{i}", **prompt(i), **fields} for i in range(count)]
        (self.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return name

    def rows(self, name: str = "prompts.results.jsonl") -> list[dict[str, object]]:
        """Return the lines of a results file."""
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def status(self, batch: str = "prompts") -> dict[str, object]:
        """Return the JSON of `status --json`."""
        done = self("status", batch, "--json")
        assert done.code == 0, done.err
        found: dict[str, object] = json.loads(done.out)
        return found

    def queued(self, batch: str) -> int:
        """Return how many jobs of a batch are in the embedded server; faster than `status`."""
        socket = embedded_socket(self.data)
        if not socket.is_socket():
            return 0
        with suppress(NoRedisError), Redis(unix_socket_path=str(socket)) as client:
            return int(client.zcard(keys.batch_queue(batch, MODEL)))
        return 0

    def pids(self, *words: str) -> list[int]:
        """Return the pids of this folder whose command line has all `words`."""
        return [
            pid
            for pid, command, env in _processes()
            if str(self.folder) in command + env and all(word in command for word in words)
        ]

    def assert_nothing_runs(self) -> None:
        """Wait until no process of this folder runs; fail after PATIENCE_S."""
        until(lambda: not self.pids())


def prompt(number: int) -> dict[str, object]:
    """Return a small request that differs for each number."""
    return {"prompt": f"prompt number {number}", "max_tokens": 20}


def _processes() -> Iterator[tuple[int, str, str]]:
    """Yield (pid, command line, working directory and environment) of every process."""
    for home in Path("/proc").iterdir():
        if not home.name.isdigit() or int(home.name) == os.getpid():
            continue
        with suppress(OSError):  # the process ended, or belongs to another user
            command = (home / "cmdline").read_bytes().decode(errors="replace")
            env = (home / "environ").read_bytes().decode(errors="replace")
            if command:  # a zombie has no command line
                yield int(home.name), command, f"{(home / 'cwd').readlink()}\0{env}"


def until(true: Callable[[], object]) -> None:
    """Wait until `true` returns a true value; other processes change it."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"not within {PATIENCE_S} s"
        time.sleep(0.05)


def finish(process: Process, code: int) -> Done:
    """Wait for a command's end; its exit code must be `code`."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, err
    assert "Traceback" not in err, err
    return Done(code=code, out=out, err=err)


class Endpoint:
    """The admin routes of a `nightmill simulate` in a process of its own."""

    def __init__(self, url: str) -> None:
        """Take its base URL."""
        self.url = url

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> object:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body))
            reply = connection.getresponse()
            assert reply.status == 200
            return json.loads(reply.read())
        finally:
            connection.close()

    def calls(self) -> dict[str, dict[str, int]]:
        """Return prompt -> its counts: calls, answered, refused, failed, abandoned."""
        reply = self._call("GET", "/admin/calls")
        assert isinstance(reply, dict)
        found: dict[str, dict[str, int]] = reply["prompts"]
        return found

    def answered(self) -> list[int]:
        """Return the number of answers of each prompt that was called."""
        return [counts["answered"] for counts in self.calls().values()]

    def configure(self, **changes: object) -> None:
        """Change its settings."""
        self._call("POST", "/admin/config", changes)

    def reset(self) -> None:
        """Set all counts to zero."""
        self._call("POST", "/admin/reset", {})


def slowly(shell: Shell, endpoint: Endpoint) -> None:
    """Slow the calls down to 100 answers a second, so that a test can act meanwhile."""
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
