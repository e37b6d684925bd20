"""`nightmill settings`: what a process would use, and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nightmill.settings import Settings
from tests.contract.test_docs import table
from tests.integration.shell import Shell

WORD = "hunter2-and-more"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Return a shell with a settings file."""
    (tmp_path / "nightmill.toml").write_text(
        f'rpm = 60\nredis_url = "redis://me:{WORD}@h/0?password={WORD}"\n'
        f'[headers]\nx-gw = "{WORD}"\nanthropic-beta = "one"\n'
    )
    (tmp_path / "key").write_text(WORD)
    return Shell(tmp_path, api_key_file="key")


def test_settings_are_shown_with_their_source(shell: Shell) -> None:
    """Of six sources, a person sees which one gave a value."""
    done = shell("settings")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"settings file: {shell.folder}/nightmill.toml\n")
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in done.out.splitlines()[2:]}
    assert rows["rpm"] == "60 nightmill.toml: rpm"
    assert rows["api_key"] == "*** NIGHTMILL_API_KEY_FILE"
    assert rows["itpm"] == "- default"
    assert rows["lease_s"] == "2.0 NIGHTMILL_LEASE_S"
    assert "x-gw: ***" in rows["headers"]
    assert "anthropic-beta: one" in rows["headers"]
    assert "@h/0" in rows["redis_url"]
    assert WORD not in done.out
    (shell.folder / "nightmill.toml").unlink()
    assert shell("settings").out.startswith("settings file: none (no nightmill.toml in ")


def test_settings_as_json(shell: Shell) -> None:
    """Its keys are in docs/wire.md."""
    found = json.loads(shell("settings", "--json").out)
    (row,) = (row for row in table("wire.md", "command") if row[0] == "`settings --json`")
    assert row[1] == "`file`, `settings` (setting -> `value`, `source`)"
    assert set(found) == {"file", "settings"}
    assert list(found["settings"]) == list(Settings.model_fields)
    assert found["settings"]["rpm"] == {"value": 60, "source": "nightmill.toml: rpm"}
    assert WORD not in json.dumps(found)


def test_each_command_warns_of_variables_that_are_no_settings(shell: Shell) -> None:
    """Once, on stderr, with what may be meant."""
    shell.export(rmp="60")
    warning = "warning: NIGHTMILL_RMP is no setting and does nothing; did you mean NIGHTMILL_RPM?\n"
    assert shell("settings", "--json").err == warning
    done = shell("worker", env={"NIGHTMILL_DATA_DIR": "/proc/nightmill"})
    assert done.err.count(warning) == 1
    assert shell("worker", "--help").err == ""


def test_a_wrong_settings_file_is_one_line(shell: Shell) -> None:
    """It names file and field, and what may be meant."""
    (shell.folder / "nightmill.toml").write_text("lease = 30\n")
    done = shell("worker")
    assert done.code == 2
    assert done.err == "error: nightmill.toml: lease: no such setting; did you mean lease_s?\n"
