"""The points of the history: what is kept of a lane, a batch or the fleet at one moment. Pure.

A point has counters as they stood at one moment, never what was gained since another point. So a
point that is missing, or that another worker wrote, changes no sum: the reader subtracts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import msgspec

from nightmill.queue.stops import HeldLane
from nightmill.reports.lanes import MINUTE_S, Gate, Hot, Lane, Limit, Orders

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nightmill.records.counts import Counts

FLEET: Final = "fleet"
"""The series of all batches and single jobs together."""


Held: TypeAlias = Literal["", "account", "held", "stopped"]


class Span(NamedTuple):
    """How long points are kept, and how many."""

    name: str
    step_s: int
    """One point in each step at most, seconds."""
    most: int
    """Points of one series."""

    @property
    def seconds(self) -> int:
        """How long it reaches back."""
        return self.step_s * self.most


HOUR: Final = Span("hour", 10, 360)
DAY: Final = Span("day", 120, 720)
SPANS: Final = (HOUR, DAY)


class LanePoint(msgspec.Struct, frozen=True, array_like=True):
    """One lane at one moment, as Redis holds it: a JSON array in this order."""

    at: float
    """Epoch seconds of Redis."""
    in_flight: int = 0
    window: int = 0
    sent: int = 0
    ok: int = 0
    refused: int = 0
    failed: int = 0
    rejected: int = 0
    unsent: int = 0
    used_input: float = 0.0
    used_output: float = 0.0
    reported: dict[str, float] = {}
    """Dimension -> the limit in the endpoint's headers, units a minute."""
    learned: dict[str, float] = {}
    """The same for limits that were learned or configured."""
    bound: dict[str, int] = {}
    """What limited the lane -> how many claims it held back."""
    breaker: str = "closed"
    held: Held = ""
    """`account`: it is stopped; `held` or `stopped`: the lane is; "" for none."""
    pause_until: float = 0.0
    """Epoch seconds of Redis; 0 when no pause is on."""

    def counters(self) -> tuple[float, ...]:
        """Return what never becomes less while the lane's hash lives."""
        return (self.sent, self.ok, self.refused, self.failed, self.used_input, self.used_output)


class Totals(msgspec.Struct, frozen=True, array_like=True):
    """The counts of one batch, or of the fleet, at one moment: a JSON array in this order."""

    at: float
    """Epoch seconds of Redis."""
    waiting: int = 0
    """Jobs in Redis that are not in flight."""
    in_flight: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nanodollars: int = 0
    wasted: int = 0
    """Those of `nanodollars` that bought no result."""
    unpriced: int = 0
    answers: int = 0
    refused: int = 0
    """Calls that were answered 429."""
    metered_ms: int = 0
    used_ms: int = 0

    def counters(self) -> tuple[float, ...]:
        """Return what never becomes less, unless rows or whole batches are removed."""
        return (self.input_tokens, self.output_tokens, self.nanodollars, self.answers, self.refused)


def lane_series(account: str, model: str) -> str:
    """Return the name of a lane's series."""
    return f"lane:{account}:{model}"


def batch_series(batch: str) -> str:
    """Return the name of a batch's series."""
    return f"batch:{batch}"


def lane_point(lane: Lane) -> LanePoint:
    """Return what the history keeps of a lane."""
    hot, orders = lane.hot, lane.orders
    held: Held = "account" if lane.stopped is not None else lane.hold.state if lane.hold else ""
    learned = {name: gate.rate * MINUTE_S for name, gate in orders.gates.items()}
    return LanePoint(
        at=lane.at,
        in_flight=lane.in_flight,
        window=orders.window,
        sent=hot.sent,
        ok=hot.ok,
        refused=hot.refused,
        failed=hot.failed,
        rejected=hot.rejected,
        unsent=hot.unsent,
        used_input=hot.used_input,
        used_output=hot.used_output,
        reported={name: each.limit for name, each in hot.reported.items()},
        learned={name: rate for name, rate in learned.items() if name not in hot.reported},
        bound={name: count for name, count in hot.bound.items() if count},
        breaker=orders.breaker,
        held=held,
        pause_until=hot.pause_until if hot.pause_until > lane.at else 0.0,
    )


def lane_of(point: LanePoint, account: str, model: str) -> Lane:
    """Return the lane as it was at a point, as `read_lanes` returned it; reasons are not kept."""
    hold = None
    if point.held and point.held != "account":
        hold = HeldLane(account=account, model=model, state=point.held, reason="")
    gates = {name: Gate(rate=rate / MINUTE_S) for name, rate in point.learned.items()}
    return Lane(
        account=account,
        model=model,
        at=point.at,
        in_flight=point.in_flight,
        hot=Hot(
            sent=point.sent,
            ok=point.ok,
            refused=point.refused,
            failed=point.failed,
            rejected=point.rejected,
            unsent=point.unsent,
            used_input=point.used_input,
            used_output=point.used_output,
            pause_until=point.pause_until,
            bound=point.bound,
            reported={name: Limit(limit=each) for name, each in point.reported.items()},
        ),
        orders=Orders(window=point.window, gates=gates, breaker=point.breaker),
        stopped="" if point.held == "account" else None,
        hold=hold,
    )


def totals(at: float, counts: Iterable[Counts]) -> Totals:
    """Return the sums over batches at one moment."""
    sums = dict.fromkeys(_SUMMED, 0)
    wasted = 0
    for each in counts:
        wasted += sum(each.wasted.values())
        for name in sums:
            sums[name] += getattr(each, name)
    return Totals(at=at, wasted=wasted, **sums)


_SUMMED: Final = tuple(name for name in Totals.__struct_fields__ if name not in {"at", "wasted"})
