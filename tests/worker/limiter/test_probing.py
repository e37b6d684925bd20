"""What a probe learns from refusals and from what passes: rates, bucket sizes, when to try."""

from __future__ import annotations

import msgspec
import pytest

from nightmill_worker.limiter.probing import Probe


def small_probe(*, tried: bool) -> Probe:
    """Return a probe of 1 a second that was refused while it tried more than its refill."""
    probe = Probe.at(0.0, 0.8, 0, 0.0, 0)
    probe = msgspec.structs.replace(probe, trying=1.0, first=0.1, measured=0.8)
    return probe.refuse(100.0, 80, 80.0, 1) if tried else probe


def test_a_pace_above_the_refill_read_is_tried_once() -> None:
    """A bucket of one call is full between two refusals: what came in is less than what may."""
    probe = small_probe(tried=True)
    assert probe.floor == pytest.approx(0.8)
    assert probe.rate == pytest.approx(0.88)


def test_a_bucket_that_lets_more_than_the_refill_pass_is_small() -> None:
    """From then on the pace before a refusal is what is known, at full speed."""
    probe = small_probe(tried=True)
    assert probe.grow(110.0, 0.1, 89, 89.0, bound=True) == probe, "no proof yet"
    proven = probe.grow(160.0, 0.1, 133, 133.0, bound=True)
    assert (proven.small, proven.floor) == (1, 0.0)
    assert proven.now == proven.rate


def test_a_pace_that_is_refused_before_its_proof_was_saved_up() -> None:
    """A large bucket paid for it: the refill is what was read, and that is not asked again soon."""
    probe = small_probe(tried=True).refuse(103.0, 83, 83.0, 2)
    assert probe.rate == pytest.approx(0.8)
    assert probe.small < 0


def test_a_debt_slows_the_next_try_down() -> None:
    """Output is charged as it comes: what a try did shows only when its calls run."""
    probe = Probe.at(0.0, 10.0, 0, 0.0, 0)
    fast = probe.grow(60.0, 1.0, 500, 500.0, bound=True)
    owing = probe.owe(8.0, 7.0)
    assert owing.lag == pytest.approx(8.0)
    assert owing.grow(20.0, 1.0, 100, 100.0, bound=True) == owing, "it rests first"
    assert 0 < owing.grow(60.0, 1.0, 500, 500.0, bound=True).trying < fast.trying


def test_readings_that_differ_are_looked_at_again_only_while_refusals_are_saved_up() -> None:
    """Two fleets on one key never agree: each would keep refusing the other."""
    calm = Probe.at(0.0, 10.0, 0, 0.0, 0)
    poor = msgspec.structs.replace(calm, credit=0.0)
    again = calm.refuse(10.0, 50, 50.0, 1)
    patient = poor.refuse(10.0, 50, 50.0, 1)
    assert again.hold < patient.hold
    assert again.rate == patient.rate == pytest.approx(5.0)


def test_a_fast_lane_waits_for_seconds_between_tries_not_only_for_calls() -> None:
    """It learns of a raised limit soon enough, and is refused less."""
    probe = msgspec.structs.replace(Probe.at(0.0, 100.0, 0, 0.0, 0), measured=100.0)
    found = probe.refuse(60.0, 6000, 6000.0, 1)
    assert found.hold == pytest.approx(4000)
