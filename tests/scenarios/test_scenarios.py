"""Some short scenarios run with the tests. `python -m tests.scenarios` plays all."""

from __future__ import annotations

import pytest

from tests.scenarios.scenario import HERE, Scenario, load, play

SHORT = [s for folder in (HERE, HERE / "judge") for s in load(folder) if s.short]


@pytest.mark.parametrize("scenario", SHORT, ids=[s.name for s in SHORT])
def test_the_lane_stays_in_the_accepted_ranges(scenario: Scenario) -> None:
    """These are the conditions that most users meet first, with one seed each."""
    found = play(scenario, scenario.seeds[0])
    missed = [f.misses(wanted) for f, wanted in zip(found, scenario.expect, strict=True)]
    assert not any(missed), f"{missed} in {found}"
