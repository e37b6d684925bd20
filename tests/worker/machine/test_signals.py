"""Which signals are a second stop; the test passes the time."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

import pytest

from nightmill_worker.machine.signals import NOTICE_S, SAME_STOP_S, StopSignals, finishing


class Loop:
    """The clock and the timers of an event loop; `run_to` moves it on."""

    def __init__(self) -> None:
        """Start at 0 s."""
        self.now = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        """Return the time, seconds."""
        return self.now

    def call_later(self, delay: float, call: Callable[..., None], *args: object) -> None:
        """Call `call` in `delay` seconds."""
        self._timers.append((self.now + delay, partial(call, *args)))

    def run_to(self, now: float) -> None:
        """Set the time and run the timers that are due."""
        self.now = now
        due = [call for at, call in self._timers if at <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for call in due:
            call()


def received(*signals: tuple[float, int]) -> tuple[list[str], float]:
    """Pass (time, signal) pairs; return which stops were asked for, and the time of the last."""
    loop, stops = Loop(), [(-1.0, "")]
    handler = StopSignals(
        lambda: stops.append((loop.now, "stop")),
        lambda: stops.append((loop.now, "at once")),
        grace_s=30,
        calls=lambda: 59,
        loop=loop,  # type: ignore[arg-type]
    )
    for at, number in signals:
        loop.run_to(at)
        handler.receive(number)
    return [stop for _, stop in stops[1:]], stops[-1][0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_gracefully(number: int) -> None:
    """Either signal does."""
    assert received((0, number)) == (["stop"], 0)


def test_sigterms_within_two_seconds_are_one() -> None:
    """A service manager and a wrapper may both send the same stop."""
    early, late = SAME_STOP_S - 0.1, SAME_STOP_S + 0.1
    term = signal.SIGTERM
    assert received((0, term), (0.01, term), (early, term)) == (["stop"], 0)
    assert received((0, term), (early, term), (late, term)) == (["stop", "at once"], late)


def test_a_second_ctrl_c_counts_once_the_notice_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Until then the person cannot know what a second one does, or one Ctrl-C came twice."""
    interrupt = signal.SIGINT
    assert received((0, interrupt), (NOTICE_S / 2, interrupt)) == (["stop"], 0)
    assert capsys.readouterr().err == ""
    both = received((0, interrupt), (0, interrupt), (NOTICE_S, interrupt))
    assert both == (["stop", "at once"], NOTICE_S)
    assert capsys.readouterr().err == (
        "Ctrl-C: 59 calls are finishing (at most 30 s). Press Ctrl-C again to stop at once; those "
        "calls would be paid for again.\n"
    )


def test_a_stop_without_calls_in_flight_asks_for_no_second_one() -> None:
    """A worker does not know how many calls its processes have."""
    assert finishing(0, 30) == "stopping; no call is in flight."
    assert finishing(1, 30).startswith("1 call is finishing (at most 30 s). Press Ctrl-C again")
    assert finishing(None, 2.5).startswith("calls in flight are finishing (at most 2.5 s). ")


def test_a_ctrl_c_after_a_sigterm_counts_once_the_notice_is_printed() -> None:
    """The notice of a SIGTERM names Ctrl-C, too."""
    both = received((0, signal.SIGTERM), (NOTICE_S, signal.SIGINT))
    assert both == (["stop", "at once"], NOTICE_S)
