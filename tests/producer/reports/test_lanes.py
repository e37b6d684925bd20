"""What `nightmill lanes` says about a lane."""

from __future__ import annotations

import msgspec
import pytest

from nightmill.queue.live_workers import Facts, LiveWorker, full
from nightmill.queue.stops import HeldLane
from nightmill.records.counts import Counts
from nightmill.reports.lanes import Hot, Lane, Look, Orders, waits_of


@pytest.mark.parametrize(
    ("stopped", "begins"),
    [
        ("claude-opus-4.x", "The lane is stopped: 403"),
        ("claude-opus-4-7", "The model claude-opus-4-7 of the lane is stopped: 403"),
    ],
)
def test_a_stopped_model_of_a_shared_lane_is_named(stopped: str, begins: str) -> None:
    """One model without permission was shown as its lane, whose other models went on."""
    hold = HeldLane(account="a", model=stopped, state="stopped", reason="403")
    lane = Lane(
        account="a",
        model="claude-opus-4.x",
        at=1.0,
        in_flight=0,
        hot=Hot(),
        orders=Orders(),
        hold=hold,
    )
    assert Look(before=lane, now=lane).why.startswith(begins)


@pytest.mark.parametrize(
    ("held", "most", "begins"),
    [
        ((1000, 960), (1000, 1000), "The workers are full at 2,000 jobs in flight: raise MAX_IN"),
        ((1000, 200), (1000, 1000), "Nothing limits it: add workers"),
        ((0, 0), (1000, 1000), "Nothing limits it: add workers"),
        ((1000, 1000), (1000, 0), "Nothing limits it: add workers"),
        ((), (), "Nothing limits it: add workers"),
    ],
    ids=["full", "one is free", "idle", "an older version", "none"],
)
def test_workers_that_are_full_are_said_to_be(
    held: tuple[int, ...], most: tuple[int, ...], begins: str
) -> None:
    """The panel said "nothing limits it" while every call that they may make was in flight."""
    workers = [LiveWorker(name=str(n), at=0, held=each) for n, each in enumerate(held)]
    facts = {str(n): Facts(most=each) for n, each in enumerate(most)}
    lane = Lane(account="a", model="m", at=1.0, in_flight=9, hot=Hot(), orders=Orders())
    look = Look(before=lane, now=lane, full=full(workers, facts))
    assert look.why.startswith(begins)
    assert msgspec.structs.replace(look, waits="no").why == "Idle: no jobs are waiting."


@pytest.mark.parametrize(
    ("counts", "begins"),
    [
        ([Counts(queued=1), Counts(retrying=5)], "Nothing limits it: add workers"),
        ([Counts(), Counts(retrying=5)], "Failed or refused calls wait until they are tried again"),
        ([Counts(snoozed=1)], "Failed or refused calls wait until they are tried again"),
        ([Counts(in_flight=1)], "Idle: no jobs are waiting."),
    ],
)
def test_jobs_that_wait_for_their_next_attempt_need_no_more_workers(
    counts: list[Counts], begins: str
) -> None:
    """The last jobs of a night waited for 40 s, and the panel said "add workers"."""
    lane = Lane(account="a", model="m", at=1.0, in_flight=0, hot=Hot(), orders=Orders())
    assert Look(before=lane, now=lane, waits=waits_of(counts)).why.startswith(begins)
