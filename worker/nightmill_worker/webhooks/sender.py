"""Signs and posts one webhook, and says when the next try is due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nightmill.setting_values import signing_key
from nightmill_worker.webhooks.reply import PostReply
from nightmill_worker.webhooks.signature import sign

if TYPE_CHECKING:
    import random

    from redis.asyncio import Redis

    from nightmill.settings import Settings

WAITS_S: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800)
"""Waits before the second try, the third and so on: a day in all. Then the webhook is given up."""
JITTER: Final = (0.8, 1.2)
"""Range of the random factor of a wait."""
NO_SECRET: Final = "the workers have no NIGHTMILL_WEBHOOK_SECRET"  # noqa: S105 - only its name


def wait_s(tries: int, asked_s: float, rng: random.Random) -> float | None:
    """Return the wait after `tries` failed ones, seconds. None: give up.

    `asked_s` is the receiver's retry-after. The wait is at least that, but at most the last of
    WAITS_S.
    """
    if tries > len(WAITS_S):
        return None
    return max(WAITS_S[tries - 1] * rng.uniform(*JITTER), min(asked_s, WAITS_S[-1]))


class Sender:
    """Posts webhooks, signed with the secret of the settings."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        """Take the secret, and whether private addresses are allowed."""
        secret = settings.webhook_secret
        self._key = signing_key(secret.get_secret_value()) if secret else None
        self._allow_private = settings.webhook_allow_private
        self._redis = redis

    @property
    def can_sign(self) -> bool:
        """Whether there is a secret: without one nothing is posted."""
        return self._key is not None

    async def now_ms(self) -> int:
        """Return Redis's clock, epoch ms."""
        seconds, micros = await self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def send(self, url: str, webhook_id: str, body: bytes) -> PostReply:
        """Post `body`; the receiver may get it again under the same id."""
        if self._key is None:
            return PostReply(problem=NO_SECRET)
        from nightmill_worker.webhooks.post import post  # noqa: PLC0415 - needs aiohttp

        # Redis's clock: receivers refuse a time that is minutes off, as this machine's may be.
        now = await self.now_ms() // 1000
        headers = {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(self._key, webhook_id, now, body),
        }
        return await post(url, body, headers, allow_private=self._allow_private)
