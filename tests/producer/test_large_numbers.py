"""Numbers with 400 digits: each ends in one clear line, and nothing is enqueued."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nightmill.errors import InvalidLimitError, InvalidParamsError, SettingsError
from nightmill.params import Defaults, check
from nightmill.records.limits import Change, Limits
from nightmill.settings import load_settings

BIG = 10**400 - 1
MOST = (1 << 63) - 1
DEFAULTS = Defaults(model="m", max_tokens=5, max_payload_bytes=1 << 20)
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("field", ["max_tokens", "top_k"])
def test_a_field_of_a_request_holds_64_bits(field: str) -> None:
    """No endpoint takes more, and a job that no endpoint takes is refused before it is enqueued."""
    assert check({"messages": MESSAGES, field: MOST}, DEFAULTS).model == "m"
    for number in (MOST + 1, BIG):
        with pytest.raises(InvalidParamsError, match=rf"{field}: .*at most 9,223,372") as caught:
            check({"messages": MESSAGES, field: number}, DEFAULTS)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "name", ["max_tokens", "rpm", "itpm", "otpm", "fleet_max_in_flight", "window", "canary"]
)
def test_a_setting_has_a_largest_value(name: str) -> None:
    """Scripts and stores count with them."""
    assert getattr(load_settings(**{name: 10**12}), name) == 10**12
    with pytest.raises(SettingsError, match=f"NIGHTMILL_{name.upper()}: .*1000000000000") as caught:
        load_settings(**{name: BIG})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, float("nan")])
def test_a_deadline_is_a_date(seconds: float) -> None:
    """`--expires` with 400 digits was a traceback."""
    with pytest.raises(InvalidLimitError, match="expires: a time"):
        Change(expires_s=seconds).over(Limits(), now_ms=0, prices=None)


@pytest.mark.parametrize(
    "command",
    [
        ["run", "in.jsonl", "--dry-run"],
        ["run", "ok.jsonl", "--dry-run", "--max-tokens", str(BIG)],
        ["run", "ok.jsonl", "--dry-run", "--set", f"max_tokens={BIG}"],
        ["run", "ok.jsonl", "--simulate", "--rpm", str(BIG)],
        ["run", "ok.jsonl", "--simulate", "--latency", str(BIG)],
        ["prune", "b", "--yes", "--older-than", f"{'9' * 5000}d"],
    ],
)
def test_a_command_ends_with_one_line(tmp_path: Path, command: list[str]) -> None:
    """The dry run said that no price is known, and other commands ended with a traceback."""
    (tmp_path / "in.jsonl").write_text(f'{{"prompt":"hi","max_tokens":{BIG}}}\n')
    (tmp_path / "ok.jsonl").write_text('{"prompt":"hi"}\n')
    done = subprocess.run(
        [sys.executable, "-m", "nightmill", *command],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "bad row: line 1: max_tokens: given" in done.stdout or "error: " in done.stderr
