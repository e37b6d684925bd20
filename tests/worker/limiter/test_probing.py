"""What a probe learns from refusals and from accepted calls: rates, bucket sizes, when to try."""

from __future__ import annotations

import msgspec
import pytest

from nightmill_worker.limiter.probing import Probe


def small_probe(*, tried: bool) -> Probe:
    """Return a probe on a small bucket; `tried`: it was refused while it tried more."""
    probe = Probe.at(0.0, 0.8, 0, 0.0, 0)
    probe = msgspec.structs.replace(probe, doublings=1.0, first_step=0.1, measured=0.8)
    return probe.after_refusal(100.0, 80, 80.0, 1) if tried else probe


def test_a_pace_above_the_measured_refill_is_tried_once() -> None:
    """A bucket of one call is full for part of the time, so its refill is higher than measured."""
    probe = small_probe(tried=True)
    assert probe.floor == pytest.approx(0.8)
    assert probe.rate == pytest.approx(0.88)


def test_a_bucket_that_lets_more_than_the_refill_pass_is_small() -> None:
    """From then on the pace before a refusal is the known rate, and it is used in full."""
    probe = small_probe(tried=True)
    assert probe.after_calls(110.0, 0.1, 89, 89.0, bound=True) == probe, "no proof yet"
    proven = probe.after_calls(160.0, 0.1, 133, 133.0, bound=True)
    assert (proven.small, proven.floor) == (1, 0.0)
    assert proven.send_rate == proven.rate


def test_a_pace_that_is_refused_before_its_proof_used_what_was_saved_up() -> None:
    """The bucket is large, the refill is as measured, and that is not checked again soon."""
    probe = small_probe(tried=True).after_refusal(103.0, 83, 83.0, 2)
    assert probe.rate == pytest.approx(0.8)
    assert probe.small < 0


def test_a_longer_debt_makes_the_next_trial_slower() -> None:
    """Output is charged while it is generated, so the effect of a trial shows late."""
    probe = Probe.at(0.0, 10.0, 0, 0.0, 0)
    fast = probe.after_calls(60.0, 1.0, 500, 500.0, bound=True)
    owing = probe.in_debt(8.0, 7.0)
    assert owing.lag == pytest.approx(8.0)
    assert owing.after_calls(20.0, 1.0, 100, 100.0, bound=True) == owing, "it waits first"
    assert 0 < owing.after_calls(60.0, 1.0, 500, 500.0, bound=True).doublings < fast.doublings


def test_measurements_that_differ_lead_to_an_early_trial_only_while_refusals_are_saved_up() -> None:
    """Two fleets on one key always measure different rates, and would cause refusals for ever."""
    calm = Probe.at(0.0, 10.0, 0, 0.0, 0)
    poor = msgspec.structs.replace(calm, credit=0.0)
    again = calm.after_refusal(10.0, 50, 50.0, 1)
    patient = poor.after_refusal(10.0, 50, 50.0, 1)
    assert again.hold < patient.hold
    assert again.rate == patient.rate == pytest.approx(5.0)


def test_a_fast_lane_waits_for_seconds_between_trials_not_only_for_calls() -> None:
    """It still finds a raised limit soon, and is refused less often."""
    probe = msgspec.structs.replace(Probe.at(0.0, 100.0, 0, 0.0, 0), measured=100.0)
    found = probe.after_refusal(60.0, 6000, 6000.0, 1)
    assert found.hold == pytest.approx(4000)
