"""Stop reasons by share: which prompts get one, and the answer that has it.

The same seed, model and first turn always get the same stop reason, so that the calls of a chain
fit together: a continued answer gets its next part, and one that was cut is whole with more tokens.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill_worker.simulator.answer import Answer, pieces_of

if TYPE_CHECKING:
    from nightmill_worker.simulator.answer import Block
    from nightmill_worker.simulator.config import SimulatorConfig
    from nightmill_worker.simulator.request import Prompt

MOST_PAUSES: Final = 3
MOST_DOUBLINGS: Final = 2
REFUSAL: Final = "I can't help with that."
_canonical = msgspec.json.Encoder(order="deterministic")


class Stops:
    """Gives answers the stop reasons that the config asks for."""

    def __init__(self) -> None:
        """Start without a prompt."""
        self._first: dict[bytes, int] = {}

    def applied(self, answer: Answer, prompt: Prompt, config: SimulatorConfig) -> Answer:
        """Return `answer` with the stop reason that is drawn for its prompt."""
        if not config.stops:
            return answer
        about = (prompt.request.model, prompt.request.system, prompt.turns[0])
        key = str(config.seed).encode()
        draw = hashlib.blake2b(_canonical.encode(about), digest_size=16, key=key).digest()
        chance = int.from_bytes(draw[:8]) / 2**64
        for stop in config.stops:
            if chance < stop.share:
                return self._stopped(answer, prompt, stop.reason, draw)
            chance -= stop.share
        return answer

    def _stopped(self, answer: Answer, prompt: Prompt, reason: str, draw: bytes) -> Answer:
        if reason == "pause_turn":
            return _part(answer, prompt, 1 + draw[8] % MOST_PAUSES)
        if reason == "refusal":
            return _with(answer, reason, REFUSAL)
        text = "".join(str(block.get("text", "")) for block in answer.content)
        if reason == "max_tokens":
            asked = prompt.request.max_tokens
            enough = self._first.setdefault(draw, asked) << (1 + draw[8] % MOST_DOUBLINGS)
            if asked >= enough:
                return answer
        if reason in {"max_tokens", "model_context_window_exceeded"}:
            pieces = pieces_of(text)
            text = "".join(pieces[: max(1, len(pieces) // 2)])
        return _with(answer, reason, text)


def _part(answer: Answer, prompt: Prompt, pauses: int) -> Answer:
    """Return the next part of an answer that pauses: the request ends with the parts so far."""
    last = prompt.turns[-1]
    done = len(last.content) if last.role == "assistant" else 0
    reason = "pause_turn" if done < pauses else "end_turn"
    text = "".join(str(block.get("text", "")) for block in answer.content)
    return _with(answer, reason, f"[part {done + 1} of {pauses + 1}] {text}\n")


def _with(answer: Answer, reason: str, text: str) -> Answer:
    """Return an answer of one text that stops with `reason`."""
    tokens = max(1, len(pieces_of(text)))
    content: list[Block] = [{"type": "text", "text": text}]
    usage = answer.body["usage"]
    counted = {**usage, "output_tokens": tokens} if isinstance(usage, dict) else usage
    body = {**answer.body, "content": content, "stop_reason": reason, "usage": counted}
    return Answer(body=body, content=content, output_tokens=tokens)
