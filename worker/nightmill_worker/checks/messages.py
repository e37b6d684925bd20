"""What a worker and its check processes send each other, as MessagePack."""

from __future__ import annotations

from typing import Final

import msgspec


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to check. `accept` is the Acceptance as JSON, `row` a JSON object."""

    message: bytes
    accept: bytes
    row: bytes


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a check found: nothing, a `problem` of the output, or a `fault` of the check itself."""

    problem: str = ""
    """What is wrong with the output; the model gets it when it is asked again."""
    fault: str = ""
    """Why the check gave no verdict: it raised, hung, died or cannot be loaded."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The first message of a check process: name -> why its function is not there, "" if it is."""

    functions: dict[str, str]


question: Final = msgspec.msgpack.Decoder(Question).decode
verdict: Final = msgspec.msgpack.Decoder(Verdict).decode
loaded: Final = msgspec.msgpack.Decoder(Loaded).decode

encoded: Final = msgspec.msgpack.Encoder().encode
