"""One call in a process of its own: its outcome, the memory it needs and its longest stall.

    python -m tests.worker.messages.measure URL SETTINGS

prints one line of JSON. SETTINGS are those that differ, as JSON. The endpoint answers the first
call with an ordinary Message: the memory of that call is not counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.messages.outcome import Succeeded
from tests.worker.messages.endpoint import PARAMS, settings


def peak_mib() -> float:
    """Return the peak memory of this process so far, MiB. `ru_maxrss` may be its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def longest_stall(ended: asyncio.Event) -> float:
    """Return the most CPU time between two turns of the event loop, seconds.

    It is CPU time, so that other processes of a busy machine do not count.
    """
    most, last = 0.0, time.thread_time()
    while not ended.is_set():
        await asyncio.sleep(0)
        now = time.thread_time()
        most, last = max(most, now - last), now
    return most


async def main(url: str, changes: dict[str, object]) -> dict[str, object]:
    """Make both calls and return the measurements of the second one."""
    ended = asyncio.Event()
    async with MessagesClient(settings(url, **changes)) as client:
        assert isinstance(classify(await client.send(PARAMS), time.time()), Succeeded)
        before = peak_mib()
        watching = asyncio.create_task(longest_stall(ended))
        outcome = classify(await client.send(PARAMS), time.time())
        ended.set()
        stall = await watching
    kind = "ok" if isinstance(outcome, Succeeded) else outcome.error.type
    return {"kind": kind, "mib": peak_mib() - before, "stall_s": stall}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))))
