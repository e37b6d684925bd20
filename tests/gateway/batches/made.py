"""Bodies of creates, and waiting for a batch, for the tests of this folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.rig import until

if TYPE_CHECKING:
    from tests.gateway.door import Door

PATH = "/v1/messages/batches"
JSON = {"content-type": "application/json"}


def request(number: int, **changed: object) -> dict[str, Any]:
    """Return one request of a batch, which differs for each number."""
    params: dict[str, Any] = {
        "model": "claude-opus-4-6",
        "max_tokens": 20,
        "messages": [{"role": "user", "content": f"prompt {number}"}],
    }
    return {"custom_id": f"c{number}", "params": {**params, **changed}}


def body(count: int, **beside: object) -> dict[str, Any]:
    """Return the body of a create."""
    return {"requests": [request(number) for number in range(count)], **beside}


async def created(door: Door, count: int, *, key: str | None = None, **beside: object) -> str:
    """Create a batch and return its id."""
    answer = await door("POST", PATH, json=body(count, **beside), key=key)
    assert answer.status == 200, answer.body
    return str(answer.json["id"])


async def ended(door: Door, batch: str, within: float = 60) -> dict[str, Any]:
    """Wait until a batch has ended and return it."""
    found: dict[str, Any] = {}

    async def look() -> bool:
        nonlocal found
        found = (await door("GET", f"{PATH}/{batch}")).json
        counts = found["request_counts"]
        assert sum(counts.values()) == sum(found["request_counts"].values())
        return bool(found["processing_status"] == "ended")

    await until(look, within=within)
    return found


async def results(door: Door, batch: str) -> dict[str, str]:
    """Return custom_id -> type of the result, of every line."""
    answer = await door("GET", f"{PATH}/{batch}/results")
    assert answer.status == 200, answer.body
    lines = [json.loads(line) for line in answer.body.splitlines()]
    found = {line["custom_id"]: line["result"]["type"] for line in lines}
    assert len(found) == len(lines)
    return found
