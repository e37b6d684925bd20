"""Shared by the simulator's tests: a small valid request, and a whole response."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

HEADERS = {"x-api-key": "k", "anthropic-version": "2023-06-01"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response: status, headers, raw body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        return msgspec.json.decode(self.body, type=dict[str, object])

    @property
    def error(self) -> dict[str, str]:
        """The error of an error body."""
        return msgspec.convert(self.json["error"], dict[str, str])

    @property
    def events(self) -> list[dict[str, object]]:
        """The data of every server-sent event; asserts that its name is its type."""
        found = []
        for block in self.body.decode().removesuffix("\n\n").split("\n\n"):
            name, data = block.split("\n")
            decoded = msgspec.json.decode(data.removeprefix("data: "), type=dict[str, object])
            assert name == f"event: {decoded['type']}"
            found.append(decoded)
        return found


Ask = Callable[..., Awaitable[Reply]]


def params(**fields: object) -> dict[str, object]:
    """Return a small valid request with `fields` changed; a field given as `...` is left out."""
    base: dict[str, object] = {
        "model": "claude-opus-4-6",
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": "Why does the wheel turn?"}],
    }
    return {name: value for name, value in (base | fields).items() if value is not ...}
