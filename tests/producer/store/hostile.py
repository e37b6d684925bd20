"""Results with values that no endpoint, producer or worker should send, and some did."""

from __future__ import annotations

from typing import Final

import msgspec

from nightmill.records.message import Message
from nightmill.records.result import Attempt, ErrorInfo, Result, Usage
from nightmill.records.state import JobState
from tests.producer.store.samples import FAILED, numbered

HUGE: Final = (1 << 63) + 5
LONG_ID: Final = "night:" + "".join(chr(0x4E00 + n * 7 % 20_000) for n in range(2_000))
"""Longer than any index entry of PostgreSQL, and hard to compress."""
ODD: Final = "a\0b\udc80\ud83d"
"""A NUL and two lone surrogates."""
TRILLIONS: Final = Usage(
    input_tokens=HUGE,
    output_tokens=1 << 70,
    cache_read_input_tokens=(1 << 63) - 1,
    cache_creation_input_tokens=-HUGE,
)


def message(blocks: str) -> Message:
    """Return a message whose content is the JSON `blocks`."""
    return Message(f'{{"type":"message","content":{blocks}}}'.encode())


HOSTILE: Final[dict[str, Result]] = {
    "a long id": numbered(1, job_id=LONG_ID, custom_id=LONG_ID.removeprefix("night:")),
    "usage over int64": numbered(2, usage=TRILLIONS, cost=1e300),
    "usage over int64 again": numbered(3, usage=TRILLIONS, cost=float("inf")),
    "counts over int32": numbered(4, attempt_count=1 << 40, snooze_count=1 << 40, call_ms=HUGE),
    "a run over int32": numbered(5, run=HUGE),
    "a line over int64": numbered(HUGE, job_id="night:line-6", custom_id="line-6"),
    "late times": numbered(7, enqueued_at=10**17, started_at=HUGE, finished_at=10**30),
    "early times": numbered(8, enqueued_at=-1, started_at=-HUGE, finished_at=-(10**17)),
    "no number as cost": numbered(9, cost=float("nan")),
    "odd texts": numbered(
        10,
        job_id=f"night:{ODD}",
        custom_id=ODD,
        model=ODD,
        request_id=ODD,
        stop_reason=ODD,
        worker=ODD,
        lane=ODD,
        request_hash=ODD,
        snooze_reasons={ODD: HUGE},
    ),
    "an odd error": msgspec.structs.replace(
        FAILED,
        job_id="night:line-11",
        seq=11,
        error=ErrorInfo(type=ODD, message=ODD * 1_000, fix=ODD),
        attempts=(
            Attempt(n=1, started_at=10**17, outcome="lost", duration_ms=1 << 70, error_message=ODD),
            Attempt(n=1 << 70, started_at=-(10**17), outcome=ODD, status=HUGE, request_id=ODD),
        ),
    ),
    "null as text": numbered(12, message=message('[{"type":"text","text":null}]')),
    "string blocks": numbered(13, message=message('["a",{"type":"text","text":"b"},7,null]')),
    "a string as content": numbered(14, message=message('"plain"')),
    "null as content": numbered(15, message=message("null")),
    "no content": numbered(16, message=Message(b'{"type":"message"}')),
    "a number as text": numbered(17, message=message('[{"type":"text","text":7}]')),
    "NaN in a tool": numbered(
        18, message=message('[{"type":"tool_use","input":{"n":NaN}},{"type":"text","text":"x"}]')
    ),
    "half a pair": numbered(19, message=message('[{"type":"text","text":"x\\ud83d"}]')),
    "half a message": numbered(20, message=Message(b'{"type":"message","content":[{"ty')),
    "bytes as message": numbered(21, message=Message(b"\xff\xfe\0\r\n")),
    "no message": numbered(22, message=Message(b"")),
    "a list as message": numbered(23, message=Message(b"[1]")),
    "a deep message": numbered(24, message=Message(b"[" * 5_000 + b"]" * 5_000)),
    "bytes as request": numbered(25, params=msgspec.Raw(b"\xff\0\n")),
    "odd turns": numbered(26, params=msgspec.Raw(b'{"messages":[7,{"role":7,"content":null}]}')),
    "a long batch": numbered(27, batch="x" * 5_000),
}
"""What is odd about a result -> the result; all but the last are of the batch "night"."""
NIGHT: Final = [result for result in HOSTILE.values() if result.batch == "night"]
GOOD: Final = [numbered(seq) for seq in range(101, 111)]


def ended(results: list[Result], status: JobState) -> int:
    """Return how many of `results` ended with `status`."""
    return sum(result.status is status for result in results)
