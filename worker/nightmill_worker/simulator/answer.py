"""The answer to a prompt: the same prompt and seed always give the same answer."""

import hashlib
import re
from itertools import islice

import msgspec

from nightmill_worker.simulator.request import MessagesRequest, Prompt, Turn
from nightmill_worker.simulator.tools import example_input

ECHO_CHARS = 48
# Output tokens that a tool call costs in addition to its input.
TOOL_OVERHEAD = 10
SENTENCE_WORDS = 11
_TEXT = (
    "the night mill turns slowly while water falls over the old wheel and every grain finds its "
    "place between two stones then flour settles in white sacks along the wall where a lamp burns "
    "until morning comes with carts and quiet voices asking for bread"
)
_WORDS = _TEXT.split()
_PIECE = re.compile(r"\S+\s*")
Block = dict[str, object]


def _sentences() -> list[str]:
    """Return the words as one-token pieces of sentences, as long as no sentence is repeated."""
    pieces = []
    for place in range(len(_WORDS) * SENTENCE_WORDS):
        word, within = _WORDS[place % len(_WORDS)], place % SENTENCE_WORDS
        word = word.capitalize() if within == 0 else word
        pieces.append(f"{word}. " if within == SENTENCE_WORDS - 1 else f"{word} ")
    return pieces


_PROSE = _sentences()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole Message."""

    body: dict[str, object]
    """The Message, ready to be encoded as JSON."""
    content: list[Block]
    output_tokens: int
    """Output tokens that the call is charged for."""


def pieces_of(text: str) -> list[str]:
    """Split text into the pieces that count as one token each and are streamed one by one."""
    return _PIECE.findall(text)


def make_answer(prompt: Prompt, seed: int, mean_tokens: int) -> Answer:
    """Compose the answer: 50 to 150 % of `mean_tokens` long, cut at max_tokens or a stop sequence.

    With thinking on, a thinking block comes first. With tools, the answer uses a tool where
    tool_choice demands it, and otherwise for every second prompt.
    """
    request = prompt.request
    draw = hashlib.blake2b(prompt.digest, digest_size=16, key=str(seed).encode()).digest()
    wanted = max(1, round(mean_tokens * (0.5 + int.from_bytes(draw[:4]) / 2**32)))
    content: list[Block] = []
    budget = request.max_tokens
    if request.thinking is not None and request.thinking.type != "disabled":
        thought = _prose(draw, max(1, min(wanted // 4, budget - 1)))
        budget -= len(thought)
        content.append(
            {"type": "thinking", "thinking": "".join(thought), "signature": draw.hex() * 4}
        )
    stop_reason, stop_sequence, spent = "end_turn", None, 0
    tool = _tool_use(request, prompt.turns, draw)
    if tool is not None and (cost := _tool_tokens(tool)) <= budget:
        content.append(tool)
        stop_reason, spent = "tool_use", cost
    elif budget > 0:
        text, stop_reason, stop_sequence = _text(prompt, draw, wanted, budget)
        spent = max(1, len(pieces_of(text)))
        content.append({"type": "text", "text": text})
    else:
        stop_reason = "max_tokens"
    stop = {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
    output_tokens = request.max_tokens - budget + spent
    return _message(prompt, f"msg_{draw.hex()[:24]}", content, stop, output_tokens)


def _message(
    prompt: Prompt, name: str, content: list[Block], stop: dict[str, str | None], output_tokens: int
) -> Answer:
    """Put content, stop fields and usage into the shape of a Message."""
    body: dict[str, object] = {
        "id": name,
        "type": "message",
        "role": "assistant",
        "model": prompt.request.model,
        "content": content,
        **stop,
        "usage": {
            "input_tokens": prompt.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
            "service_tier": "standard",
        },
    }
    return Answer(body=body, content=content, output_tokens=output_tokens)


def _prose(draw: bytes, count: int) -> list[str]:
    """Return `count` one-token pieces of plain sentences; `draw` decides where they start."""
    start = draw[4] % len(_WORDS) * SENTENCE_WORDS
    pieces = (_PROSE * ((start + count) // len(_PROSE) + 1))[start : start + count]
    pieces[-1] = f"{pieces[-1].rstrip(' .')}."
    return pieces


def _text(prompt: Prompt, draw: bytes, wanted: int, budget: int) -> tuple[str, str, str | None]:
    """Return the text, its stop reason, and the stop sequence that occurred (None: none did)."""
    # The answer repeats words of its prompt, so that a swapped answer can be recognised.
    opening = pieces_of(f"Re: {_last_words(prompt.turns)}\n")
    pieces = opening + _prose(draw, max(1, wanted - len(opening)))
    text, stop_reason = "".join(pieces[:budget]), "end_turn"
    if len(pieces) > budget:
        stop_reason = "max_tokens"
    met = [(text.find(stop), stop) for stop in prompt.request.stop_sequences or () if stop in text]
    if met:
        place, stop = min(met)
        return text[:place], "stop_sequence", stop
    return text, stop_reason, None


def _last_words(turns: tuple[Turn, ...]) -> str:
    """Return the first characters of the last user text, on one line."""
    for turn in reversed(turns):
        if turn.role != "user":
            continue
        if isinstance(turn.content, str):
            return " ".join(turn.content[:ECHO_CHARS].split())
        for block in turn.content:
            if isinstance(text := block.get("text"), str):
                return " ".join(text[:ECHO_CHARS].split())
    return "no text"


def _tool_use(request: MessagesRequest, turns: tuple[Turn, ...], draw: bytes) -> Block | None:
    """Return a tool call, or None where the answer is text.

    A turn that brings tool results is answered with text, so that a loop over tools ends.
    """
    choice = request.tool_choice.type if request.tool_choice else "auto"
    if not request.tools or choice == "none":
        return None
    content = turns[-1].content
    if choice == "auto":
        answered = isinstance(content, list) and any(
            block.get("type") == "tool_result" for block in islice(content, 50)
        )
        if answered or draw[5] % 2:
            return None
    tool = request.tools[draw[6] % len(request.tools)]
    if request.tool_choice is not None and choice == "tool":
        tool = next(t for t in request.tools if t.name == request.tool_choice.name)
    return {
        "type": "tool_use",
        "id": f"toolu_{draw.hex()[8:]}",
        "name": tool.name,
        "input": example_input(tool.input_schema or {}),
    }


def _tool_tokens(tool: Block) -> int:
    return TOOL_OVERHEAD + len(msgspec.json.encode(tool["input"])) // 4
