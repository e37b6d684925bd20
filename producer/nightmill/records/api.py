"""The API version and the betas that a job asks for. Its calls carry them as headers."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self

import msgspec
from msgspec import Meta

MOST_BETAS: Final = 32
"""Betas of one job."""

# \Z, since $ also matches before a line feed, and one would begin another header.
VERSION: Final = r"^(?:[a-z]{1,20}-)?[0-9]{4}-[0-9]{2}-[0-9]{2}\Z"
BETA: Final = r"^[0-9A-Za-z][0-9A-Za-z._-]{0,99}\Z"
A_VERSION: Final = "a date, as 2023-06-01 is"
A_BETA: Final = "letters, digits, dots, dashes and underscores, 1 to 100 characters"

Version = Annotated[str, Meta(pattern=VERSION)]
Betas = Annotated[tuple[Annotated[str, Meta(pattern=BETA)], ...], Meta(max_length=MOST_BETAS)]


class Api(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job asks of the API beside its request; false when it asks for nothing."""

    anthropic_version: Version | None = None
    """None: the worker's setting ANTHROPIC_VERSION."""
    anthropic_beta: Betas = ()

    def __bool__(self) -> bool:
        """Whether it asks for anything."""
        return self.anthropic_version is not None or bool(self.anthropic_beta)

    def or_else(self, other: Self) -> Self:
        """Return this with the version of `other` if it has none, and the betas of both."""
        if not other:
            return self
        return type(self)(
            anthropic_version=self.anthropic_version or other.anthropic_version,
            anthropic_beta=tuple(dict.fromkeys((*other.anthropic_beta, *self.anthropic_beta))),
        )

    def headers(self, betas: str = "") -> dict[str, str]:
        """Return the headers of a call; `betas` are those that every call has."""
        found = {}
        if self.anthropic_version is not None:
            found["anthropic-version"] = self.anthropic_version
        if self.anthropic_beta:
            names = [*filter(None, map(str.strip, betas.split(","))), *self.anthropic_beta]
            found["anthropic-beta"] = ",".join(dict.fromkeys(names))
        return found

    def beside(self, params: bytes) -> bytes:
        """Return a request as requests are compared: with the version and betas in its object."""
        return params[:-1] + b"," + msgspec.json.encode(self)[1:] if self else params


NO_API: Final = Api()


def is_version(value: object) -> bool:
    """Tell whether `value` can be a version."""
    return isinstance(value, str) and re.match(VERSION, value) is not None


def is_beta(value: object) -> bool:
    """Tell whether `value` can name a beta."""
    return isinstance(value, str) and re.match(BETA, value) is not None
