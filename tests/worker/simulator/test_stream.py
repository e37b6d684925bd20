"""Streams: their events give the same answer as a plain call."""

import msgspec
import pytest

from nightmill_worker.simulator import Simulator, SimulatorConfig
from nightmill_worker.simulator.stream import ticks
from tests.worker.simulator.helpers import Ask, Reply

TOOL = {"name": "look", "input_schema": {"properties": {"what": {"type": "string"}}}}


def rebuilt(reply: Reply) -> list[dict[str, object]]:
    """Build the blocks from their deltas."""
    blocks: list[dict[str, object]] = []
    for event in reply.events:
        if event["type"] == "content_block_start":
            blocks.append(msgspec.convert(event["content_block"], dict[str, object]))
        if event["type"] == "content_block_delta":
            delta = msgspec.convert(event["delta"], dict[str, str])
            name = delta.pop("type").removesuffix("_delta")
            if name == "input_json":
                blocks[-1]["json"] = str(blocks[-1].get("json", "")) + delta["partial_json"]
            else:
                blocks[-1][name] = str(blocks[-1][name]) + delta[name]
    for block in blocks:
        if "json" in block:
            block["input"] = msgspec.json.decode(str(block.pop("json")))
    return blocks


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_tokens": 1},
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
        {
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "max_tokens": 4000,
        },
    ],
)
async def test_a_stream_has_the_content_of_the_plain_answer(
    ask: Ask, fields: dict[str, object]
) -> None:
    """It has the same id, blocks and usage, and its events are in order."""
    async with Simulator() as sim:
        plain = await ask(sim, **fields)
        streamed = await ask(sim, stream=True, **fields)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    kinds = [event["type"] for event in streamed.events]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert "ping" in kinds
    assert kinds.count("content_block_start") == kinds.count("content_block_stop")
    assert rebuilt(streamed) == plain.json["content"]
    start = msgspec.convert(streamed.events[0]["message"], dict[str, object])
    assert start["id"] == plain.json["id"]
    delta = streamed.events[-2]
    usage = msgspec.convert(plain.json["usage"], dict[str, object])
    assert delta["usage"] == {k: v for k, v in usage.items() if k != "service_tier"}
    assert delta["delta"] == {k: plain.json[k] for k in ("stop_reason", "stop_sequence")}


async def test_an_error_event_follows_a_200(ask: Ask) -> None:
    """The status was sent before the error, so only the body shows it."""
    async with Simulator(SimulatorConfig(sse_error=1.0)) as sim:
        reply = await ask(sim, stream=True)
        assert sim.ledger.totals.failed == 1
    assert reply.status == 200
    assert reply.events[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded"},
    }
    assert "message_stop" not in [event["type"] for event in reply.events]


def test_events_are_grouped_into_few_writes() -> None:
    """A long call must not cost one write for each event; no event is lost."""
    framed = [b"%d;" % n for n in range(97)]
    for latency_s in (0.0, 0.06, 0.3, 60.0):
        writes = ticks(framed, latency_s)
        assert b"".join(writes) == b"".join(framed)
        assert len(writes) <= max(1, min(20, int(latency_s / 0.05)))
