"""The help of the commands: groups, one line each, examples that can be copied."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from nightmill.cli.app import OWN, build
from nightmill.cli.groups import GROUPS, LONGEST, OTHERS

if TYPE_CHECKING:
    from tests.integration.shell import Shell


@pytest.fixture
def helps(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return command -> its help at 80 columns, without a process for each."""
    monkeypatch.setenv("COLUMNS", "80")
    found = {}
    for name in (*OWN, "run"):
        done = CliRunner().invoke(build([name]), [name, "--help"], prog_name="nightmill")
        assert done.exit_code == 0, done.output
        found[name] = done.output
    return found


def test_version_and_help(shell: Shell, helps: dict[str, str]) -> None:
    """The help of every command has an example."""
    assert shell("--version").out.startswith("nightmill ")
    assert shell("status", "--help").out.split() == helps["status"].split()
    for command, text in helps.items():
        assert "For example:" in text, command
        assert f"nightmill {command}" in text


def test_help_groups_the_commands_with_one_short_line_each(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """18 commands stood in one list, `run` as the 15th, and 80 columns cut every line."""
    monkeypatch.setenv("COLUMNS", "80")
    text = shell("--help").out
    listed = []
    for heading in GROUPS:
        _, _, after = text.partition(f"\n{heading}:\n")
        rows = [line.split(maxsplit=1) for line in after.partition("\n\n")[0].splitlines()]
        assert rows, heading
        assert [name for name, _ in rows if name not in GROUPS[heading]] == []
        assert [summary for _, summary in rows if len(summary) > LONGEST] == []
        assert [summary for _, summary in rows if not summary.endswith(".")] == []
        assert [summary for _, summary in rows if summary.endswith("...")] == []
        listed += [name for name, _ in rows]
    assert set(OWN) | {"run", "worker"} <= set(listed)
    assert f"\n{OTHERS}:" not in text, "put the new command into a group"


def test_examples_can_be_copied_at_80_columns(
    helps: dict[str, str],
) -> None:
    """An example that is wrapped is two commands for a shell."""
    for text in helps.values():
        _, _, after = text.partition("For example:")
        examples, *_ = re.split("^(?:Arguments|Options):", after, flags=re.MULTILINE)
        assert [each for each in examples.split("\n\n") if "\n" in each.strip()] == []
