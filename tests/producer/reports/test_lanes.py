"""What `nightmill lanes` says about a lane."""

from __future__ import annotations

import pytest

from nightmill.queue.stops import HeldLane
from nightmill.reports.lanes import Hot, Lane, Look, Orders


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
