"""One mistake is shown once, with the number of rows that have it and the first of their lines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from nightmill.errors import InvalidParamsError
from nightmill.sources.line import Rejected

MAX_MISTAKES: Final = 20
"""Mistakes that are shown apart; the rows with others are only counted."""

_OF_ONE_ROW: Final = re.compile(r"'(?:[^'\\]|\\.)*'|0x[0-9a-f]+|\d[\d,.]*")
"""Parts of an error that differ between rows with the same mistake: given values and numbers."""


class Mistake(msgspec.Struct, kw_only=True):
    """One mistake of a source."""

    error: InvalidParamsError
    """The error of the first row that has it, with its line."""
    rows: int
    """Rows that have it."""

    def text(self, of: int) -> str:
        """Return it as one line of text; the source has `of` rows."""
        if self.rows == 1:
            return str(self.error)
        what = str(InvalidParamsError(self.error.field, self.error.problem))
        return f"{self.rows:,} of {of:,} rows: {what} (first: line {self.error.line})"


class Mistakes(msgspec.Struct, kw_only=True):
    """The mistakes of a source, in the order of their first lines."""

    shown: tuple[Mistake, ...]
    others: int
    """Rows with a mistake that is not among `shown`."""

    def lines(self, of: int) -> list[str]:
        """Return a line of text for each; the source has `of` rows."""
        more = [f"... and {self.others:,} rows with other mistakes"] if self.others else []
        return [*(mistake.text(of) for mistake in self.shown), *more]


def mistakes_of(rejects: Iterable[Rejected]) -> Mistakes:
    """Group rejected rows by their mistake."""
    found: dict[tuple[str, str], Mistake] = {}
    others = 0
    for rejected in rejects:
        error = rejected.error
        key = (_OF_ONE_ROW.sub("#", error.field), _OF_ONE_ROW.sub("#", error.problem))
        if key in found:
            found[key].rows += 1
        elif len(found) < MAX_MISTAKES:
            found[key] = Mistake(error=error, rows=1)
        else:
            others += 1
    return Mistakes(shown=tuple(found.values()), others=others)
