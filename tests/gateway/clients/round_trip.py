"""All calls of the official Python SDK that the gateway serves. ANTHROPIC_BASE_URL says where."""

from __future__ import annotations

import sys
import time
from typing import Any

import anthropic

client = anthropic.Anthropic()
batches = client.messages.batches


def params(text: str) -> Any:  # noqa: ANN401 - of each version of the SDK
    """Return a Messages request."""
    messages = [{"role": "user", "content": text}]
    return {"model": "claude-opus-4-6", "max_tokens": 20, "messages": messages}


def request(number: int) -> Any:  # noqa: ANN401 - as above
    """Return one request of a batch."""
    return {"custom_id": f"c{number}", "params": params(f"prompt {number}")}


message: Any = client.messages.create(**params("hello"))
with client.messages.stream(**params("hello")) as stream:
    text = "".join(stream.text_stream)
    streamed: Any = stream.get_final_message()
assert text == streamed.content[0].text == message.content[0].text

made = batches.create(requests=[request(number) for number in range(10)])
polled = made
while polled.processing_status != "ended":
    time.sleep(0.05)
    polled = batches.retrieve(made.id)
assert polled.request_counts.succeeded == 10
lines = list(batches.results(made.id))
assert [line.custom_id for line in lines] == [f"c{number}" for number in range(10)]
assert {line.result.type for line in lines} == {"succeeded"}
others = [batches.create(requests=[request(number)]).id for number in range(3)]
assert [batch.id for batch in batches.list(limit=2)] == [*others[::-1], made.id]
assert batches.cancel(others[0]).processing_status in {"canceling", "ended"}
assert batches.delete(made.id).type == "message_batch_deleted"
try:
    batches.retrieve(made.id)
except anthropic.NotFoundError:
    sys.stdout.write(f"passed with {anthropic.__version__}\n")
