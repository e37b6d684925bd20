"""A job fails for its size only when a known limit is smaller than it."""

from __future__ import annotations

import pytest

from nightmill import load_settings
from nightmill_worker.jobs.known_limits import KnownLimits

SMALL = b'{"max_tokens":50,"messages":[{"role":"user","content":"hi"}]}'
LARGE = SMALL.replace(b"hi", b"word " * 4000)
IMAGE = SMALL.replace(b'"hi"', b'[{"source":{"data":"' + b"A" * 900_000 + b'"}}]')
LONG = SMALL.replace(b"50", b"8000")
INPUT = "This request would exceed the rate limit of 1,000 input tokens per minute."
OUTPUT = "This request would exceed the rate limit of 1,000 output tokens per minute."
VAGUE = "slow down"


def excess(
    body: bytes,
    message: str = VAGUE,
    reported: dict[str, tuple[int, int]] | None = None,
    *,
    before: dict[str, tuple[int, int]] | None = None,
    **caps: float,
) -> str:
    """Return what is known of a refused request; `before` was reported by an earlier answer."""
    limits = KnownLimits(load_settings(**caps))
    limits.note("m", before or reported or {})
    return limits.excess("m", body, message, reported or {})


def test_without_a_known_limit_no_job_exceeds_it() -> None:
    """At 5 calls a minute for four processes, good jobs failed: each was alone in its process."""
    assert excess(SMALL) == ""
    assert excess(LARGE) == ""
    assert excess(LARGE, INPUT) == ""


@pytest.mark.parametrize("used", [0, 1000])
def test_a_job_within_the_limit_waits_however_often_it_is_refused(used: int) -> None:
    """Others use the limit up."""
    assert excess(SMALL, INPUT, {"input": (1000, used and 100)}) == ""
    assert excess(SMALL, VAGUE, {"requests": (5, 0), "input": (1000, 1000)}) == ""
    assert excess(SMALL, OUTPUT, {"output": (1000, 1000)}) == ""


def test_a_job_over_a_reported_limit_exceeds_it() -> None:
    """20,000 bytes of text have more than 2,500 tokens."""
    assert "the limit is 1,000 a minute" in excess(LARGE, reported={"input": (1000, 0)})
    assert "the limit is 1,000 a minute" in excess(LARGE, before={"input": (1000, 0)})
    assert excess(LARGE, reported={"input": (100_000, 0)}) == ""


def test_a_job_over_the_operators_limit_exceeds_it() -> None:
    """The operator knows the limit where no header reports it."""
    assert excess(LARGE, itpm=1000)
    assert excess(LARGE, reported={"input": (100_000, 0)}, itpm=1000)
    assert excess(SMALL, itpm=1000) == ""


def test_an_unused_limit_that_refuses_is_too_small() -> None:
    """The endpoint counts the tokens itself: its bucket was full and the job did not fit."""
    assert excess(SMALL, INPUT, {"input": (1000, 1000)})
    assert excess(LONG, OUTPUT, {"output": (1000, 990)})


def test_the_bytes_of_a_file_are_no_tokens() -> None:
    """An image of a megabyte has some 1,600 tokens."""
    assert excess(IMAGE, reported={"input": (2000, 0)}) == ""


def test_an_answer_that_begins_tells_other_limits_at_once_and_levels_once_a_second() -> None:
    """A settlement for every stream that starts would double what a call costs Redis."""
    known = KnownLimits(load_settings())
    assert not known.is_news("m", {}, 0.0)
    assert known.is_news("m", {"requests": (60, 59)}, 0.0)
    assert not known.is_news("m", {"requests": (60, 58)}, 0.5)
    assert known.is_news("other", {"requests": (60, 58)}, 0.5)
    assert known.is_news("m", {"requests": (90, 58)}, 0.6)
    assert known.is_news("m", {"requests": (90, 57)}, 1.7)
