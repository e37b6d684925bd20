"""How long a small run takes: imports, the first call, three prompts from start to exit."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.table import Table, times

PROMPTS: Final = 3
CALL_S: Final = 0.05
ROUNDS: Final = 7
FIRST_BAR_S: Final = 0.5
WHOLE_BAR_S: Final = 0.9
BYTECODE: Final = {"PYTHONDONTWRITEBYTECODE": ""}
"""Python keeps what the first round has compiled, as an installed package is compiled."""
IMPORTS: Final = {
    "the main process of run": "nightmill_worker.cli.run, nightmill_worker.cli.running",
    "a worker process": "nightmill_worker.machine.process",
    "aiohttp": "aiohttp",
}
BARE: Final = """
import asyncio, json, sys, aiohttp

async def main():
    async with aiohttp.ClientSession() as http:
        async def call(line):
            body = {"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": line}]}
            async with http.post(sys.argv[1] + "/v1/messages", json=body) as reply:
                return await reply.json()
        answers = await asyncio.gather(*map(call, open("prompts.jsonl")))
    with open("results.jsonl", "w") as out:
        out.writelines(json.dumps(answer) + "\\n" for answer in answers)

asyncio.run(main())
"""
MESSAGE: Final = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-6",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 5},
    }
).encode()


class Took(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of one command, from its start; CPU of it and of all that it started."""

    first: float
    whole: float
    cpu: float


class _Handler(BaseHTTPRequestHandler):
    """Answers every call after CALL_S, and notes when the first one came."""

    protocol_version = "HTTP/1.1"
    first = 0.0

    def do_POST(self) -> None:
        _Handler.first = _Handler.first or time.monotonic()
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(CALL_S)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(MESSAGE)))
        self.end_headers()
        self.wfile.write(MESSAGE)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


async def run_start(*, quick: bool) -> Table:
    """Measure in turns; the table has the best of each, since other processes only add to it."""
    rounds = 3 if quick else ROUNDS
    return await asyncio.to_thread(_measure, rounds)


def _measure(rounds: int) -> Table:
    with _endpoint() as url:
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "bare aiohttp script": [sys.executable, "-c", BARE, url],
            "nightmill run": [sys.executable, "-m", "nightmill", "run", "prompts.jsonl"],
        }
        taken = [{name: _took(each, url) for name, each in commands.items()} for _ in range(rounds)]
    best = {name: _best([each[name] for each in taken]) for name in commands}
    imports = {name: _import_s(modules, rounds) for name, modules in IMPORTS.items()}
    bare = best["bare aiohttp script"]
    rows = [
        (
            name,
            f"{took.first:.2f}" if took.first else "-",
            f"{took.whole:.2f}",
            f"{took.cpu:.2f}",
            times(took.whole, bare.whole),
            times(took.cpu, bare.cpu),
        )
        for name, took in best.items()
    ]
    rows += [
        (f"import: {name}", "-", f"{seconds:.2f}", "-", "-", "-")
        for name, seconds in imports.items()
    ]
    return Table(
        title="start",
        what=f"{PROMPTS} prompts in an empty folder, calls of {CALL_S:g} s; best of {rounds}. "
        f"Bars: first call {FIRST_BAR_S:g} s, whole command {WHOLE_BAR_S:g} s. Imports are the sum "
        "of `-X importtime`.",
        heads=("command", "first call s", "whole s", "CPU s", "whole x bare", "CPU x bare"),
        rows=tuple(rows),
    )


@contextmanager
def _endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _took(command: list[str], url: str) -> Took:
    """Run a command in a new folder with a file of prompts."""
    with tempfile.TemporaryDirectory(prefix="nm-") as folder:
        lines = (json.dumps({"prompt": f"number {n}", "max_tokens": 20}) for n in range(PROMPTS))
        Path(folder, "prompts.jsonl").write_text("\n".join(lines))
        _Handler.first = 0.0
        before = os.times()
        began = time.monotonic()
        subprocess.run(  # noqa: S603 - our own commands
            command,
            cwd=folder,
            env=os.environ | BYTECODE | {"NIGHTMILL_BASE_URL": url, "NIGHTMILL_API_KEY": "k"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        whole = time.monotonic() - began
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    return Took(first=max(0.0, _Handler.first - began), whole=whole, cpu=cpu)


def _best(taken: list[Took]) -> Took:
    return Took(
        first=min(each.first for each in taken),
        whole=min(each.whole for each in taken),
        cpu=min(each.cpu for each in taken),
    )


def _import_s(modules: str, rounds: int) -> float:
    """Return the seconds that the imports take, as `-X importtime` counts them."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {modules}"]
    return min(
        sum(
            int(line.split(":")[1].split("|")[0])
            for line in subprocess.run(  # noqa: S603 - our own command
                command, env=os.environ | BYTECODE, capture_output=True, check=True, text=True
            ).stderr.splitlines()
            if "self [us]" not in line
        )
        / 1e6
        for _ in range(rounds)
    )
