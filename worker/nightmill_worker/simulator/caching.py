"""The prompt cache, and what else changes the bill of an answer: the usage that it reports.

A request marks with `cache_control` where a prefix of it ends. The longest prefix that is in the
cache is read, and lives anew; what stands between it and the last mark is written. A prefix lives
5 min, or 1 h where its mark says so.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill_worker.simulator.blocks import BYTES_PER_TOKEN, content_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nightmill_worker.simulator.answer import Answer
    from nightmill_worker.simulator.blocks import Fields
    from nightmill_worker.simulator.request import Prompt

LIVES_S: Final = {"5m": 300.0, "1h": 3600.0}
LEAST_TOKENS: Final = 1024
"""A shorter prefix is not cached, as at the endpoint (512 to 4,096 by model)."""
MOST_MARKS: Final = 4
SEARCH: Final = "web_search_"
"""What the type of the endpoint's own search tool begins with."""
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a prefix: its hash, its tokens, and how long it lives, seconds."""

    digest: bytes
    tokens: int
    life_s: float


class Cache:
    """The prefixes of one endpoint, and when each ends, seconds of a monotonic clock."""

    def __init__(self) -> None:
        """Start empty."""
        self._ends: dict[bytes, tuple[float, float]] = {}

    def applied(self, answer: Answer, prompt: Prompt, now: float) -> Answer:
        """Return `answer` with the usage that the endpoint bills for it."""
        usage = answer.body["usage"]
        if not isinstance(usage, dict):
            return answer
        request = prompt.request
        marks = [mark for mark in marks_of(prompt) if mark.tokens >= LEAST_TOKENS][-MOST_MARKS:]
        read = max((mark.tokens for mark in marks if self._touch(mark, now)), default=0)
        written, done = dict.fromkeys(LIVES_S.values(), 0), read
        for mark in marks:
            if mark.tokens > done:
                written[mark.life_s] += mark.tokens - done
                done = mark.tokens
                self._ends[mark.digest] = (now + mark.life_s, mark.life_s)
        more: dict[str, object] = {
            "input_tokens": max(0, usage["input_tokens"] - done),
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": sum(written.values()),
            "cache_creation": {
                "ephemeral_5m_input_tokens": written[LIVES_S["5m"]],
                "ephemeral_1h_input_tokens": written[LIVES_S["1h"]],
            },
            "inference_geo": request.inference_geo or "global",
            "speed": "fast" if request.speed == "fast" else "standard",
        }
        if any((tool.type or "").startswith(SEARCH) for tool in request.tools or ()):
            searches = 1 + prompt.digest[7] % 3
            more["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
        return msgspec.structs.replace(answer, body=answer.body | {"usage": usage | more})

    def _touch(self, mark: Mark, now: float) -> bool:
        """Return whether a prefix is in the cache; reading it lets it live anew."""
        ends, life_s = self._ends.get(mark.digest, (0.0, 0.0))
        if ends <= now:
            self._ends.pop(mark.digest, None)
            return False
        self._ends[mark.digest] = (now + life_s, life_s)
        return True


def tokens_read(answer: Answer) -> int:
    """Return the tokens of a prompt that came from the cache: no limit counts them."""
    usage = answer.body["usage"]
    read = usage.get("cache_read_input_tokens") if isinstance(usage, dict) else 0
    return read if isinstance(read, int) else 0


def marks_of(prompt: Prompt) -> list[Mark]:
    """Return where the prefixes of a request end that it wants to be cached."""
    request, blocks = prompt.request, list(_blocks(prompt))
    if request.cache_control is None and not any("cache_control" in block for block in blocks):
        return []
    start = _encode([request.model, request.speed, request.tools])
    digest, tokens = hashlib.sha256(start), 0
    if request.tools:
        tokens = len(_encode(request.tools)) // BYTES_PER_TOKEN
    found, last = [], None
    for block in blocks:
        plain = {name: part for name, part in block.items() if name != "cache_control"}
        digest.update(_encode(plain))
        tokens += content_tokens([block])
        last = (digest.digest(), tokens)
        if (life_s := _life(block.get("cache_control"))) is not None:
            found.append(Mark(digest=last[0], tokens=tokens, life_s=life_s))
    whole = _life(request.cache_control)
    if whole is not None and last is not None:
        found.append(Mark(digest=last[0], tokens=last[1], life_s=whole))
    return found


def _blocks(prompt: Prompt) -> Iterator[Fields]:
    contents = [prompt.request.system or "", *(turn.content for turn in prompt.turns)]
    for content in contents:
        if isinstance(content, str):
            yield {"type": "text", "text": content}
        else:
            yield from content


def _life(mark: object) -> float | None:
    """Return how long a prefix lives that ends with this mark; None for no mark."""
    if not isinstance(mark, dict):
        return None
    return LIVES_S.get(str(mark.get("ttl", "5m")), LIVES_S["5m"])
