"""No answer takes much memory, nor much time in which other calls stand still."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Final

import pytest

from tests.worker.messages.endpoint import MESSAGE
from tests.worker.messages.hostile import HOSTILE, JSON_HEAD, Chunks

MOST_MIB: Final = 150
MOST_STALL_S: Final = 0.5
"""CPU time of one turn of the event loop. Most answers need less than a tenth of it."""
KINDS: Final = {
    "list of numbers": "ok",
    "list of NaN": "invalid_response",
    "list of odd strings": "invalid_response",
    "large stream": "ok",
    "large tool input": "ok",
    "headers": "invalid_response",
    "header line": "invalid_response",
    "interim answers": "invalid_response",
    "error": "api_error",
    "error bomb": "api_error",
}
"""What each hostile answer ends as. All others are too large."""
SLOW: Final = {
    "gzip bomb of a stream",
    "body in small chunks",
    "line ends",
    "pings",
    "odd deltas",
    "citations",
    "data lines",
    "deltas",
    "wide deltas",
}
"""Answers that cost much CPU time for each byte."""


async def measured(chunks: Chunks, **changes: object) -> dict[str, object]:
    """Return what a call costs that is answered with `chunks`."""
    ordinary = [JSON_HEAD, b"\r\n", json.dumps(MESSAGE).encode()]
    answers = iter([iter(ordinary), chunks])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            for chunk in next(answers):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        command = ("-m", "tests.worker.messages.measure", url, json.dumps(changes))
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await process.communicate()
    found: dict[str, object] = json.loads(printed)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the peak memory is read from /proc")
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_answer_takes_little_memory_and_time(name: str) -> None:
    """One answer of 3 MB took more than 1.5 GB and stopped all other calls."""
    changes: dict[str, object] = {"max_response_bytes": 4 << 20} if name in SLOW else {}
    found = await measured(HOSTILE[name](), **changes)
    assert found["kind"] == KINDS.get(name, "response_too_large")
    assert found["mib"] < MOST_MIB  # type: ignore[operator]
    assert found["stall_s"] < MOST_STALL_S  # type: ignore[operator]
