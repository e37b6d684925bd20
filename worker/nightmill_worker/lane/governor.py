"""The governor: one worker of the fleet runs the law for every lane, a few times a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill import keys
from nightmill_worker.lane.aimd import Law, Seen, step

if TYPE_CHECKING:
    from redis.asyncio import Redis

TICK_S: Final = 0.1
"""How often the law runs, seconds."""
LOCK_MS: Final = 1500
"""The governor's lock; another worker takes over when it runs out."""


class Governor:
    """Runs the law for the lanes of one line while it holds the lock."""

    def __init__(self, redis: Redis, *, line: str, worker: str) -> None:
        """Take a client, the line, and this worker's name (it marks the lock)."""
        self._redis = redis
        self._line = line
        self._worker = worker
        self._lock = f"{keys.GOVERNOR}{line}"
        self._before: dict[str, dict[bytes, bytes]] = {}

    async def tick(self) -> None:
        """Take or keep the lock; holding it, run the law once for every lane."""
        if not await self._holds_lock():
            self._before.clear()
            return
        for member in await self._redis.execute_command("SMEMBERS", keys.LANES):
            name = member.decode()
            if name.startswith(f"{self._line}:"):
                await self._govern(keys.LANE + name)

    async def _holds_lock(self) -> bool:
        taken = await self._redis.set(self._lock, self._worker, nx=True, px=LOCK_MS)
        if taken:
            return True
        holder = await self._redis.get(self._lock)
        if holder != self._worker.encode():
            return False
        await self._redis.pexpire(self._lock, LOCK_MS)
        return True

    async def _govern(self, lane: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(lane)
            pipe.zcard(f"{lane}:slots")
            now, in_flight = await pipe.execute()
        before = self._before.get(lane, now)
        self._before[lane] = now
        law = msgspec.json.decode(now[b"law"], type=Law) if b"law" in now else Law()
        seen = Seen(
            answered=_int(now, b"ok") - _int(before, b"ok"),
            bound=_int(now, b"bound_window") - _int(before, b"bound_window"),
            epoch=_int(now, b"epoch"),
            in_flight=in_flight,
        )
        after = step(law, seen)
        if after != law or b"law" not in now:
            window, kept = int(after.window), msgspec.json.encode(after)
            await self._redis.execute_command("HSET", lane, "window", window, "law", kept)


def _int(fields: dict[bytes, bytes], name: bytes) -> int:
    return int(float(fields.get(name, 0)))
