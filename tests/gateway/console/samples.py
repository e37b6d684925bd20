"""Samples for every page: what ran, what waits, what failed, an hour of history."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nightmill.queue import keys
from nightmill.records.access_key import AccessKey
from nightmill.records.job import now_ms
from nightmill.records.message import Message
from nightmill.records.result import Attempt, ErrorInfo, Usage
from nightmill.records.state import JobState
from nightmill.reports.history_points import DAY, FLEET, HOUR, LanePoint, Totals, lane_series
from nightmill.store.access_keys import AccessKeys, digest_of
from nightmill_gateway.access.key import new_key
from nightmill_worker.simulator.config import Fault
from tests.gateway.console.test_listing import make
from tests.producer.store.samples import numbered
from tests.rig import Rig, hello

if TYPE_CHECKING:
    from nightmill.records.result import Result
    from tests.gateway.door import Door

EVIL: Final = (
    "\"'><img src=https://evil.example/x onerror=window.evil=1><script>window.evil=1</script>"
    "<svg onload=window.evil=1></svg></pre></textarea></title><a href=javascript:window.evil=1>"
    "{{7*7}}<style>@import 'https://evil.example/y'</style>\u202egnp"
)
"""What runs or loads something where it is taken for markup, a style, an attribute, a template."""
EVIL_BATCH: Final = EVIL.replace(":", "").replace("\u202e", "")
"""The same as a name of a batch: without the colon and the character that turns a line round."""
PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
"""A PNG of one pixel, base64."""


def image(data: str, kind: str = "image/png") -> dict[str, Any]:
    """Return a block with an image."""
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def night_job(seq: int, batch: str = "night", said: str = "Three rivers", **fields: Any) -> Result:  # noqa: ANN401
    """Return a result with blocks of every kind and three calls, and `said` wherever text is."""
    at = now_ms() - 60_000
    params = {
        "model": "claude-opus-4-6",
        "max_tokens": 500,
        "system": said,
        "metadata": {"user_id": said},
        "tools": [{"name": said, "description": said, "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": said}, image(PIXEL)]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t", "name": said, "input": {said: said}}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": said},
                    {"type": "image", "source": {"type": "url", "url": "https://evil.example/z"}},
                    {"type": said, said: said},
                ],
            },
        ],
    }
    answer = {
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": said, "signature": said},
            {"type": "text", "text": said},
            {"type": "tool_use", "id": "u", "name": said, "input": {"at": said}},
        ],
        "stop_reason": "stop_sequence",
        "stop_sequence": said,
    }
    calls = (
        Attempt(
            n=1,
            started_at=at + 9_000,
            duration_ms=400,
            outcome="snoozed",
            counted=False,
            status=429,
            error_type="rate_limit_error",
            error_message=said,
            request_id="req_1",
            wait_ms=8_000,
        ),
        Attempt(
            n=2,
            started_at=at + 18_000,
            duration_ms=11_000,
            outcome="retrying",
            status=529,
            error_type="overloaded_error",
            error_message=said,
            request_id=said[:60],
            wait_ms=4_000,
        ),
        Attempt(
            n=3,
            started_at=at + 33_000,
            duration_ms=14_000,
            outcome="succeeded",
            status=200,
            request_id="req_3",
            worker=said,
        ),
    )
    return numbered(
        seq,
        batch=batch,
        **{
            "params": msgspec.Raw(json.dumps(params).encode()),
            "message": Message(json.dumps(answer).encode()),
            "attempts": calls,
            "enqueued_at": at,
            "started_at": at + 9_000,
            "finished_at": at + 47_200,
            "queue_ms": 9_000,
            "call_ms": 25_400 + 2_000 * seq,
            "usage": Usage(input_tokens=900 + 90 * seq, output_tokens=300 + 40 * seq),
            **fields,
        },
    )


def failed(seq: int, batch: str, error: ErrorInfo, **fields: Any) -> Result:  # noqa: ANN401
    """Return a result that failed with an error."""
    return night_job(seq, batch, message=None, status=JobState.FAILED, error=error, **fields)


async def store_samples(door: Door, rig: Rig) -> None:
    """Make batches that ran, run and wait, with an hour of history."""
    rig.sim.configure(faults=(Fault(status=400, share=0.3),))
    for n in range(12):
        await rig.producer.enqueue(hello(f"Name river {n}."), batch="evening", custom_id=f"{n}")
    await rig.work_off()
    for n in range(5):
        await rig.producer.enqueue(hello(), batch="waits", custom_id=f"{n}")
    long = f"{'W' * 60}/{'x' * 300}"
    await rig.producer.enqueue(hello(), batch=long, custom_id="1" * 300)
    rows = [night_job(n) for n in range(1, 13)]
    rows += [
        failed(
            20 + n,
            "night",
            ErrorInfo(type="invalid_request_error", message="max_tokens: 0", fix="give 1 at least"),
        )
        for n in range(3)
    ]
    await door.services.store.record(rows)
    counts = {"succeeded": 12, "failed": 3, "input_tokens": 14_000, "output_tokens": 6_000}
    await make(door, "night", created_at=now_ms() - 3_600_000, total=40, **counts)
    await write_history(rig)


async def store_hostile(door: Door) -> None:
    """Store EVIL in every field that a user, a model or an endpoint fills."""
    error = ErrorInfo(type=EVIL, message=EVIL, fix=EVIL)
    fields = {"batch": EVIL_BATCH, "stop_reason": EVIL[:200], "model": EVIL[:200], "said": EVIL}
    one = {"job_id": f"{EVIL_BATCH}:{EVIL}", "custom_id": EVIL}
    other = {"job_id": f"{EVIL_BATCH}:2", "custom_id": "2"}
    lane = {"lane": f"0123456789abcdef:{EVIL}", "worker": EVIL, "request_id": EVIL}
    await door.services.store.record(
        [
            night_job(1, **fields, **one, **lane),
            failed(2, EVIL_BATCH, error, said=EVIL, **other),
        ]
    )
    redis = door.services.redis
    counts = {"succeeded": 1, "failed": 1, "total": 9, "flag": "paused", "reason": EVIL}
    await make(door, EVIL_BATCH, created_at=now_ms(), **counts)
    lane_name = f"0123456789abcdef:{EVIL}"
    await redis.execute_command("SADD", keys.LANES, lane_name)
    await redis.execute_command("HSET", keys.LANE + lane_name, "sent", "3", "used_at", "1")
    account = keys.ACCOUNT + "0123456789abcdef"
    await redis.execute_command("HSET", account, "state", "stopped", "reason", EVIL)


async def write_history(rig: Rig) -> None:
    """Write points of the last hour and day, as a worker does that ran all the time."""
    seconds, _ = await rig.redis.time()
    lanes = sorted(await rig.redis.execute_command("SMEMBERS", keys.LANES))
    account, _, model = lanes[0].decode().partition(":")
    for span in (HOUR, DAY):
        step = span.step_s
        points: dict[str, list[bytes]] = {FLEET: [], lane_series(account, model): []}
        for n in range(span.most):
            at, wave = seconds - (span.most - n) * step, abs(n % 40 - 20)
            if 100 < n < 130:
                continue  # nobody wrote
            totals = Totals(
                at=at,
                succeeded=n * 30 + wave,
                failed=n * 2,
                input_tokens=n * 12_000 + wave * 900,
                output_tokens=n * 5_000,
                nanodollars=n * 300_000_000,
                refused=n // 3,
                answers=n * 32,
            )
            lane = LanePoint(
                at=at,
                in_flight=20 + wave,
                window=48,
                sent=n * 33,
                ok=n * 32,
                refused=n // 3,
                used_input=n * 12_000.0,
                used_output=n * 5_000.0,
                reported={"requests": 400.0, "input": 90_000.0},
                learned={"output": 40_000.0},
                bound={"window": n},
            )
            points[FLEET].append(msgspec.json.encode(totals))
            points[lane_series(account, model)].append(msgspec.json.encode(lane))
        for series, some in points.items():
            await rig.redis.execute_command("RPUSH", keys.history(span.name, series), *some)


async def key_named(door: Door, name: str) -> str:
    """Make a key of an operator of all tenants with a name."""
    stored = AccessKeys(door.services.store)
    key_id, key = new_key()
    await stored.add(
        AccessKey(
            key_id=key_id,
            digest=digest_of(await stored.secret(), key),
            name=name,
            role="operator",
            tenant="*",
            created_at=now_ms(),
        )
    )
    return key
