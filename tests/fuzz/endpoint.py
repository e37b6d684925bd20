"""A raw TCP endpoint: reads requests, counts calls per prompt, sends whatever bytes it is given."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Final

from tests.fuzz.answers import Answer, good, odd_answer

LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
AGAIN_ODD: Final = 0.5
"""Share of the later calls of an odd job that get an odd answer, too."""


class Endpoint:
    """Answers prompts that start with "odd" oddly, and all others well."""

    def __init__(self, rng: random.Random) -> None:
        """Take the chances of the odd answers."""
        self._rng = rng
        self.calls: Counter[str] = Counter()
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection stays."""
        head = await reader.readuntil(b"\r\n\r\n")
        found = LENGTH.search(head)
        body = await reader.readexactly(int(found[1])) if found else b""
        prompt = _prompt(body)
        self.calls[prompt] += 1
        answer = self._chosen(prompt)
        edges = [0, *answer.cuts, len(answer.data)]
        for begin, end in pairwise(edges):
            writer.write(answer.data[begin:end])
            await writer.drain()
            await asyncio.sleep(0)
        if answer.then == "stall":
            await reader.read()  # until the caller gives up
        elif answer.then == "abort":
            writer.transport.abort()
        return answer.then == "keep"

    def _chosen(self, prompt: str) -> Answer:
        if not prompt.startswith("odd"):
            return good(prompt)
        if self.calls[prompt] > 1 and self._rng.random() > AGAIN_ODD:
            return good(prompt)
        return odd_answer(random.Random(f"{prompt} {self._rng.random()}"), prompt)


def _prompt(body: bytes) -> str:
    """Return the text of the first message, "" for a request that has none."""
    try:
        content = json.loads(body)["messages"][0]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return content if isinstance(content, str) else ""


@asynccontextmanager
async def serving(rng: random.Random) -> AsyncIterator[tuple[Endpoint, str]]:
    """Listen on loopback; yield the endpoint and its URL."""
    endpoint = Endpoint(rng)
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0, limit=1 << 22)
    try:
        yield endpoint, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
