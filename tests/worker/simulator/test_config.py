"""The config: what it refuses, and its messages."""

import pytest

from nightmill_worker.simulator.config import (
    ConfigError,
    Fault,
    SimulatorConfig,
    change_config,
    make_config,
    parse_fault,
    parse_stall,
)


def test_a_fault_is_a_status_and_a_share() -> None:
    """`--fail` is read from STATUS:SHARE."""
    assert parse_fault("529:0.05") == Fault(status=529, share=0.05)


@pytest.mark.parametrize("text", ["529", "529:", "x:0.1", "529:1.5", "200:0.1", "529:nan", ""])
def test_an_invalid_fault_is_refused_by_name(text: str) -> None:
    """The message names the option and shows an example."""
    with pytest.raises(ConfigError, match=r"^fail: .* 529:0\.05"):
        parse_fault(text)


def test_a_stall_may_have_a_duration() -> None:
    """`--stall` is read from SHARE or SHARE:SECONDS."""
    assert parse_stall("0.1") == (0.1, None)
    assert parse_stall("0.1:30") == (0.1, 30.0)
    with pytest.raises(ConfigError, match="stall: 'soon'"):
        parse_stall("soon")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"jitter": 2.0}, "^jitter: "),
        ({"latency_s": -1}, "^latency_s: "),
        ({"rpm": 0}, "^rpm: "),
        ({"rpm": "many"}, "^rpm: "),
        ({"down": 200}, "^down: "),
        ({"speed": 1}, "^speed: no such setting"),
        ({"burst": 5}, "^burst: needs rpm"),
        ({"drop": 0.6, "truncate": 0.6}, "add up to 1.2"),
        ({"drop": float("nan")}, "^drop: "),
    ],
)
def test_an_invalid_setting_is_refused_by_name(fields: dict[str, object], message: str) -> None:
    """The command and the admin route give the same message."""
    with pytest.raises(ConfigError, match=message):
        make_config(fields)


def test_a_change_keeps_the_rest() -> None:
    """The admin route receives only the settings that change."""
    config = SimulatorConfig(rpm=60, faults=(Fault(status=529, share=0.1),))
    assert change_config(config, {"rpm": None}) == SimulatorConfig(faults=config.faults)
