"""Structured outputs: answers that fit the schema of their request, and a share that do not."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nightmill.checked.shape import root_of
from nightmill_worker.simulator.answer import Answer, pieces_of
from nightmill_worker.simulator.tools import example

if TYPE_CHECKING:
    from nightmill_worker.simulator.answer import Block
    from nightmill_worker.simulator.config import SimulatorConfig
    from nightmill_worker.simulator.request import Prompt

BROKEN: Final = ("I would rather say it in words.", '{"cut": ', '```json\n{"odd_field": [1]}\n```')
"""Texts that are no JSON, broken JSON, and JSON that fits few schemas."""


class Outputs:
    """Gives answers the outputs that a schema asks for."""

    def __init__(self) -> None:
        """Start without a prompt."""
        self._asked: Counter[bytes] = Counter()

    def applied(self, answer: Answer, prompt: Prompt, config: SimulatorConfig) -> Answer:
        """Return `answer` with a text that fits the schema of the config, or of the request.

        An answer that uses a tool stays as it is. `invalid` is the share of the
        calls that get another text; the same request may get a good one the next time.
        """
        schema = _schema_of(prompt, config)
        if schema is None or answer.body["stop_reason"] == "tool_use":
            return answer
        self._asked[prompt.digest] += 1
        seed = f"{config.seed} {self._asked[prompt.digest]}".encode()
        draw = hashlib.blake2b(prompt.digest, digest_size=16, key=seed[:64]).digest()
        if int.from_bytes(draw[:8]) / 2**64 < config.invalid:
            return _with(answer, prompt, BROKEN[draw[8] % len(BROKEN)])
        value = example(schema, int.from_bytes(prompt.digest[:4]))
        return _with(answer, prompt, msgspec.json.encode(value).decode())


def _schema_of(prompt: Prompt, config: SimulatorConfig) -> dict[str, Any] | None:
    """Return the config's schema, which has limits too, else that of the request."""
    if config.schema:
        return _read(config.schema)
    asked = prompt.request.output_config
    return asked.format.schema if asked and asked.format else None


@lru_cache(maxsize=8)
def _read(text: str) -> dict[str, Any]:
    return root_of(text.encode())


def _with(answer: Answer, prompt: Prompt, text: str) -> Answer:
    """Return `answer` with `text` in place of its own, cut at max_tokens; what it thought stays."""
    thought = [each for each in answer.content if each["type"] != "text"]
    old = sum(len(pieces_of(str(each.get("text", "")))) for each in answer.content)
    before = answer.output_tokens - max(1, old) if thought else 0
    pieces, room = pieces_of(text), max(1, prompt.request.max_tokens - before)
    stop_reason = "end_turn" if len(pieces) <= room else "max_tokens"
    tokens = before + max(1, min(len(pieces), room))
    content: list[Block] = [*thought, {"type": "text", "text": "".join(pieces[:room])}]
    usage = answer.body["usage"]
    counted = {**usage, "output_tokens": tokens} if isinstance(usage, dict) else usage
    body = {**answer.body, "content": content, "usage": counted}
    body |= {"stop_reason": stop_reason, "stop_sequence": None}
    return Answer(body=body, content=content, output_tokens=tokens)
