"""One mistake is shown once, with a count and the first line."""

from __future__ import annotations

from nightmill.errors import InvalidParamsError
from nightmill.sources.line import Rejected
from nightmill.sources.mistakes import MAX_MISTAKES, mistakes_of


def bad(line: int, field: str, problem: str) -> Rejected:
    """Return a rejected line."""
    return Rejected(number=line, error=InvalidParamsError(field, problem, line=line), snippet="")


def test_rows_with_the_same_mistake_are_one_line() -> None:
    """3,000 rows without a column printed the same line 3,000 times."""
    rejects = [bad(n, "prompt", 'no column "review" in this row') for n in range(2, 3002)]
    (line,) = mistakes_of(rejects).lines(3000)
    assert line == ('3,000 of 3,000 rows: prompt: no column "review" in this row (first: line 2)')


def test_what_a_row_gave_makes_no_other_mistake() -> None:
    """Given values and numbers differ in each row. Names of columns and fields do not."""
    rejects = [
        bad(1, "temperature", "given 1.5 (number); allowed: 0 to 1"),
        bad(2, "temperature", "given 2 (integer); allowed: 0 to 1"),
        bad(3, "temperature", "given 3.5 (number); allowed: 0 to 1"),
        bad(4, "custom_id", "'it\\'s' was used on line 1 already"),
        bad(5, "custom_id", "'b' was used on line 2 already"),
        bad(6, "messages.0.content", "given '' (string)"),
        bad(7, "messages.12.content", "given '' (string)"),
        bad(8, "prompt", 'no column "a"'),
        bad(9, "prompt", 'no column "b"'),
    ]
    assert mistakes_of(rejects).lines(9) == [
        "2 of 9 rows: temperature: given 1.5 (number); allowed: 0 to 1 (first: line 1)",
        "line 2: temperature: given 2 (integer); allowed: 0 to 1",
        "2 of 9 rows: custom_id: 'it\\'s' was used on line 1 already (first: line 4)",
        "2 of 9 rows: messages.0.content: given '' (string) (first: line 6)",
        'line 8: prompt: no column "a"',
        'line 9: prompt: no column "b"',
    ]


def test_many_mistakes_are_counted() -> None:
    """The memory and the output stay small for any file."""
    rejects = [bad(n, "prompt", f'no column "{chr(65 + n)}"') for n in range(50)]
    lines = mistakes_of(rejects).lines(50)
    assert len(lines) == MAX_MISTAKES + 1
    assert lines[-1] == "... and 30 rows with other mistakes"
