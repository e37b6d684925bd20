"""What a contender is told, what it reports, and the prompts that all of them send."""

from __future__ import annotations

from typing import Final

import msgspec

BATCH: Final = "bench"
HEADERS: Final = {
    "anthropic-version": "2023-06-01",
    "content-type": "application/json",
    "x-api-key": "bench",
}
"""What nightmill's client sends; the other contenders send the same."""

_FILLER: Final = "the mill turns all night and every grain finds its place between the stones " * 64


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One contender process's task: prompts `first` to `first + jobs` of `size` bytes each."""

    contender: str
    slots: int
    jobs: int
    size: int
    base_url: str = "http://127.0.0.1:9"
    redis_url: str = ""
    data_dir: str = ""
    first: int = 0


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What a process used since the start signal: CPU (user + system) and wall time, seconds."""

    cpu_s: float
    wall_s: float
    peak_rss_mb: float
    checked_s: float = 0.0
    """How much of the wall time went into checking the source."""


def request(number: int, size: int) -> dict[str, object]:
    """Return the `number`-th prompt: a Messages request of `size` bytes as JSON."""
    text = f"{number:08d} {_FILLER}"
    return _shaped(text[: size - _OVERHEAD])


def requests(work: Work) -> list[dict[str, object]]:
    """Return all prompts of `work`."""
    return [request(number, work.size) for number in range(work.first, work.first + work.jobs)]


def _shaped(text: str) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": "claude-opus-4-6", "max_tokens": 256, "messages": messages}


_OVERHEAD: Final = len(msgspec.json.encode(_shaped("")))
