"""The prompt cache of the simulator, and what else changes the bill of an answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nightmill_worker.simulator import Simulator, SimulatorConfig
from nightmill_worker.simulator.answer import make_answer
from nightmill_worker.simulator.caching import Cache
from nightmill_worker.simulator.request import read_prompt
from tests.worker.simulator.helpers import Ask, params

LONG = "word " * 2000  # 2,500 tokens


class _Message(msgspec.Struct):
    usage: dict[str, Any]


def used(cache: Cache, now: float, **fields: object) -> tuple[int, int, int, int]:
    """Return the input, cache reads and writes of 5 min and 1 h that a call is billed for."""
    prompt = read_prompt(msgspec.json.encode(params(**fields)))
    answer = cache.applied(make_answer(prompt, 0, 20), prompt, now)
    usage = msgspec.convert(answer.body["usage"], dict[str, object])
    writes = msgspec.convert(usage["cache_creation"], dict[str, int])
    total = usage["input_tokens"], usage["cache_read_input_tokens"]
    parts = writes["ephemeral_5m_input_tokens"], writes["ephemeral_1h_input_tokens"]
    assert usage["cache_creation_input_tokens"] == sum(parts)
    return msgspec.convert((*total, *parts), tuple[int, int, int, int])


def system(text: str, ttl: str | None = None) -> list[dict[str, object]]:
    """Return a system prompt that is to be cached."""
    mark = {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})
    return [{"type": "text", "text": text, "cache_control": mark}]


def test_a_prefix_is_written_read_and_forgotten_after_its_life() -> None:
    """Reading it lets it live anew."""
    cache = Cache()
    assert used(cache, 0.0, system=system(LONG)) == (6, 0, 2500, 0)
    assert used(cache, 200.0, system=system(LONG)) == (6, 2500, 0, 0)
    assert used(cache, 499.0, system=system(LONG)) == (6, 2500, 0, 0)
    assert used(cache, 800.0, system=system(LONG)) == (6, 0, 2500, 0)
    assert used(cache, 800.0, system=system(LONG + "other")) == (6, 0, 2502, 0)
    assert used(cache, 801.0, system=system(LONG), model="claude-opus-4-8") == (6, 0, 2500, 0)


def test_an_hour_is_written_apart_and_lasts_longer() -> None:
    """Its writes have another price."""
    cache = Cache()
    assert used(cache, 0.0, system=system(LONG, "1h")) == (6, 0, 0, 2500)
    assert used(cache, 3000.0, system=system(LONG, "1h")) == (6, 2500, 0, 0)


def test_a_later_mark_writes_only_what_stands_behind_the_prefix_that_was_read() -> None:
    """So a conversation pays for its new turns."""
    cache = Cache()
    assert used(cache, 0.0, system=system(LONG, "1h")) == (6, 0, 0, 2500)
    turn = {"role": "user", "content": system(LONG)}
    assert used(cache, 1.0, system=system(LONG, "1h"), messages=[turn]) == (0, 2500, 2500, 0)


def test_a_short_prefix_and_one_without_a_mark_are_not_cached() -> None:
    """They are processed as input, without an error."""
    cache = Cache()
    for _ in range(2):
        assert used(cache, 0.0, system=system("short"))[1:] == (0, 0, 0)
        assert used(cache, 0.0, system=LONG) == (2506, 0, 0, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_says_what_it_is_billed_for(ask: Ask, stream: bool) -> None:  # noqa: FBT001
    """Speed, place and searches change the bill."""
    tools = [{"type": "web_search_20260209", "name": "web_search"}]
    fields = {"speed": "fast", "inference_geo": "us", "tools": tools, "stream": stream}
    async with Simulator(SimulatorConfig(fast_itpm=20_000)) as sim:
        reply = await ask(sim, **fields)
        message = reply.events[0]["message"] if stream else reply.json
        usage = msgspec.convert(message, _Message).usage
        assert (usage["speed"], usage["inference_geo"]) == ("fast", "us")
        assert usage["server_tool_use"]["web_search_requests"] in {1, 2, 3}
        assert reply.headers["anthropic-fast-input-tokens-limit"] == "20000"


async def test_fast_calls_and_others_have_limits_of_their_own(ask: Ask) -> None:
    """A used-up limit of one says nothing about the other."""
    async with Simulator(SimulatorConfig(itpm=60, fast_itpm=10)) as sim:
        fast = [(await ask(sim, speed="fast")).status for _ in range(3)]
        slow = [await ask(sim) for _ in range(3)]
        assert fast == [200, 429, 429]
        assert [reply.status for reply in slow] == [200, 200, 200]
        assert slow[0].headers["anthropic-ratelimit-input-tokens-limit"] == "60"
        assert "anthropic-fast-input-tokens-limit" not in slow[0].headers
