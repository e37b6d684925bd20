"""Where reading of stored rows has come to."""

from __future__ import annotations

from typing import Final, NamedTuple, Self

from nightmill.errors import InvalidParamsError

_DIGITS: Final = 18
"""Most digits of a place: a larger number would not fit the stores' integers."""


class Place(NamedTuple):
    """A row in an order of reading: its value in that order, and its key, as stored."""

    value: int
    job_id: str

    @classmethod
    def of_cursor(cls, cursor: str) -> Self:
        """Return the place that a `Result.cursor` names. Raises InvalidParamsError."""
        seq, colon, job_id = cursor.partition(":")
        if not (colon and seq.isascii() and seq.isdigit() and len(seq) <= _DIGITS):
            problem = f"{cursor!r} is no place in a batch: give the `cursor` of a result"
            raise InvalidParamsError("after", problem)
        return cls(int(seq), job_id)

    @property
    def cursor(self) -> str:
        """The place as text."""
        return f"{self.value}:{self.job_id}"
