"""The work of a contender, its report, and the prompts that all contenders send."""

from __future__ import annotations

from typing import Final

import msgspec

BATCH: Final = "bench"
HEADERS: Final = {
    "anthropic-version": "2023-06-01",
    "content-type": "application/json",
    "x-api-key": "bench",
}
"""Headers that nightmill's client sends. The other contenders send the same."""

_FILLER: Final = "the mill turns all night and every grain finds its place between the stones " * 64


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """The work of one contender process: the prompts `first` to `first + jobs`."""

    contender: str
    """A key of `contender.TASKS`."""
    slots: int
    """Calls in flight at most."""
    jobs: int
    """0 for a worker that runs until it is stopped."""
    size: int
    """Bytes of one request."""
    base_url: str = "http://127.0.0.1:9"
    redis_url: str = ""
    data_dir: str = ""
    first: int = 0


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What a process used since the start signal."""

    cpu_s: float
    """User and system time, seconds."""
    wall_s: float
    peak_rss_mb: float
    checked_s: float = 0.0
    """Part of `wall_s` in which the source was checked."""


def request(number: int, size: int) -> dict[str, object]:
    """Return prompt `number`: a Messages request that is `size` bytes as JSON."""
    text = f"{number:08d} {_FILLER}"
    return _request_with(text[: size - _OVERHEAD])


def requests(work: Work) -> list[dict[str, object]]:
    """Return all prompts of `work`."""
    return [request(number, work.size) for number in range(work.first, work.first + work.jobs)]


def _request_with(text: str) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": "claude-opus-4-6", "max_tokens": 256, "messages": messages}


_OVERHEAD: Final = len(msgspec.json.encode(_request_with("")))
