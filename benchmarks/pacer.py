"""A client that knows the right limit: it sends its calls evenly, or keeps its slots full.

`python -m benchmarks.pacer URL JOBS RATE SLOTS`. RATE is calls a second, 0: as slots allow.
A refused call is sent again a second later.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import aiohttp
import uvloop

REFUSED: Final = 429
HEADERS: Final = {"x-api-key": "bench", "anthropic-version": "2023-06-01"}
BODY: Final = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "say something"}],
}


async def main(url: str, jobs: int, rate: float, slots: int) -> None:
    """Make `jobs` calls, `rate` a second, with `slots` of them in flight at most."""
    free, loop = asyncio.Semaphore(slots), asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as client:

        async def call() -> None:
            async with free:
                while True:
                    async with client.post(f"{url}/v1/messages", json=BODY) as answer:
                        await answer.read()
                        if answer.status != REFUSED:
                            answer.raise_for_status()
                            return
                    await asyncio.sleep(1)

        began, calls = loop.time(), []
        for number in range(jobs):
            if rate and (wait := began + number / rate - loop.time()) > 0:
                await asyncio.sleep(wait)
            calls.append(asyncio.create_task(call()))
        await asyncio.gather(*calls)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])))
