"""The help of the commands: groups, one line each, examples that can be copied."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nightmill.cli.app import OWN
from nightmill.cli.groups import GROUPS, LONGEST, OTHERS

if TYPE_CHECKING:
    import pytest

    from tests.integration.shell import Shell


def test_version_and_help(shell: Shell) -> None:
    """The help of every command has an example."""
    assert shell("--version").out.startswith("nightmill ")
    for command in (
        *("enqueue", "status", "results", "lanes", "pause", "resume", "cancel", "adjust"),
        *("show", "errors", "retry", "verify", "prune"),
    ):
        done = shell(command, "--help")
        assert done.code == 0
        assert "For example:" in done.out
        assert f"nightmill {command}" in done.out


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
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example that is wrapped is two commands for a shell."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in (*OWN, "run"):
        text = shell(name, "--help").out
        _, _, after = text.partition("For example:")
        examples, *_ = re.split("^(?:Arguments|Options):", after, flags=re.MULTILINE)
        assert [each for each in examples.split("\n\n") if "\n" in each.strip()] == []
