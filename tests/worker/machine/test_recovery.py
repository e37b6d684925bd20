"""What a run does when no job is in Redis; a stand-in for the feeder says how many are missing."""

from __future__ import annotations

from typing import cast

import pytest

from nightmill.enqueue.feeder import Feeder
from nightmill.records.counts import Counts
from nightmill_worker.machine.recovery import IN_VAIN, Recovery, Step


class Missing:
    """Says how many rows are missing, look after look."""

    def __init__(self, *numbers: int) -> None:
        """Take the answers."""
        self.numbers = list(numbers)

    async def missing(self, _: object) -> int:
        """Return the next answer."""
        return self.numbers.pop(0)


def recovery(*missing: int, lease_s: float = 0.0) -> Recovery:
    """Return a recovery whose looks find these numbers of missing rows."""
    return Recovery(cast("Feeder", Missing(*missing)), lambda: (), lease_s)


async def steps(watched: Recovery, number: int, counts: Counts | None = None) -> list[Step]:
    """Return the next steps."""
    return [await watched.step(counts or Counts()) for _ in range(number)]


async def test_a_run_whose_rows_are_all_there_is_done() -> None:
    """The usual end takes one look at the store."""
    watched = recovery(0)
    assert await steps(watched, 1) == [Step.DONE]
    assert (watched.lost, watched.notice, watched.reason) == (0, "", "")


async def test_lost_jobs_are_fed_again_after_one_lease() -> None:
    """Workers put back what they hold meanwhile: of 9 lost jobs, 4 came back by themselves."""
    watched = recovery(9, 5, 0)
    assert await steps(watched, 1) == [Step.WAIT]
    assert watched.notice.startswith("Redis has lost jobs: 9 have no row")
    assert await steps(watched, 2) == [Step.FEED, Step.DONE]
    assert (watched.lost, watched.notice) == (5, "")


async def test_within_the_lease_the_store_is_not_asked_again() -> None:
    """The look may read a million ids."""
    watched = recovery(9, lease_s=3600)
    assert await steps(watched, 3) == [Step.WAIT] * 3


async def test_jobs_that_came_back_by_themselves_are_not_fed() -> None:
    """All of them were in flight."""
    watched = recovery(9, 0)
    assert await steps(watched, 2) == [Step.WAIT, Step.DONE]
    assert watched.lost == 0


async def test_feeding_in_vain_ends() -> None:
    """A Redis that deletes jobs when its memory is full would be fed for ever."""
    watched = recovery(*(5 for _ in range(20)))
    taken = await steps(watched, 2 * (IN_VAIN + 1))
    assert taken == [Step.WAIT, Step.FEED] * IN_VAIN + [Step.WAIT, Step.STOP]
    assert "5 were fed 4 times and have no row; nightmill doctor" in watched.reason


async def test_feeding_with_progress_goes_on() -> None:
    """A Redis that is restarted again and again still ends the batch."""
    missing = [number for left in range(30, 0, -1) for number in (left, left)]
    watched = recovery(*missing, 0)
    assert (await steps(watched, 61))[-1] is Step.DONE


@pytest.mark.parametrize("flag", ["cancelled", "expired"])
async def test_lost_jobs_of_a_batch_that_ended_are_no_success(flag: str) -> None:
    """They can neither be fed nor get rows any more."""
    watched = recovery(5, 5)
    assert await steps(watched, 2, Counts(flag=flag)) == [Step.WAIT, Step.STOP]
    assert watched.reason == f"Redis lost 5 jobs of this batch, which is {flag}"
