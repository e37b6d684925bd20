"""What commands print: nothing from outside controls the terminal, and no credential is shown."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from rich.live import Live
from rich.text import Text

from nightmill.cli import app, terminal
from nightmill.cli.console import VisibleConsole
from nightmill.cli.fitted import FittedTable

ROOT = Path(__file__).parents[3]
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def test_no_command_prints_by_another_way() -> None:
    """One way, one rule: typer.echo, print and rich's own Console would pass everything."""
    other = re.compile(r"typer\.s?echo|\bprint\(|[^e]Console\(|sys\.std(out|err)\.write")
    allowed = {"console.py": "Console", "closing_block.py": "VisibleConsole(stderr=True).print("}
    for folder in ("producer/nightmill/cli", "worker/nightmill_worker/cli"):
        for path in (ROOT / folder).glob("*.py"):
            for line in path.read_text().splitlines():
                found = other.search(line.replace("console.print(", "").replace("out.print(", ""))
                assert not found or allowed.get(path.name, "-") in line, (path, line)


@pytest.mark.parametrize("err", [False, True])
def test_a_text_is_printed_without_controls(
    capsys: pytest.CaptureFixture[str], *, err: bool
) -> None:
    """Ids, errors and names of files come from outside."""
    terminal.echo(f"id {EVIL}\n\tend", err=err)
    shown = capsys.readouterr()
    assert (shown.err if err else shown.out) == (
        "id \\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202e\n\tend\n"
    )


def test_a_table_and_a_live_line_show_controls_as_text() -> None:
    """Rich passes escapes of a text to the terminal; its own colours must still work."""
    out = io.StringIO()
    console = VisibleConsole(width=200)
    console.file = out
    table = FittedTable(("id", "state"), text_columns=2)
    table.add(EVIL, "running")
    with Live(console=console, auto_refresh=False) as live:
        live.update(table, refresh=True)
    console.print(Text(EVIL))
    console.print(f"[bold]{EVIL}[/]")
    shown = out.getvalue()
    assert not set(shown) & set("\x1b\x9b\x07\u202e")
    assert shown.count(r"\x1b[2J\x9b31m\u202e") == 3  # also in its cell, which is made wide enough
    assert "[bold]" in shown


def test_colours_of_rich_pass() -> None:
    """Only what texts hold is shown as text."""
    out = io.StringIO()
    console = VisibleConsole()
    console.file, console._color_system = out, console._detect_color_system()
    console._force_terminal = True
    console.print(Text(f"a {EVIL}", style="bold"))
    assert "\\x1b" in out.getvalue()


def test_an_error_shows_neither_controls_nor_credentials(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An error quotes what it was given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NIGHTMILL_API_KEY", "sk-secret-01234")
    terminal._secrets.cache_clear()
    name = f"sk-secret-01234{EVIL}"
    monkeypatch.setattr(sys, "argv", ["nightmill", "enqueue", "in.jsonl", "--batch", f"{name}:x"])
    with pytest.raises(SystemExit) as ended:
        app.execute()
    terminal._secrets.cache_clear()
    shown = capsys.readouterr().err
    assert ended.value.code == 2
    assert "[credential]" in shown
    assert "sk-secret" not in shown
    assert not set(shown) & set("\x1b\x9b\u202e")


def test_a_defect_shows_its_place_and_no_credentials(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its text may quote anything: the URL of the store, say."""
    monkeypatch.setenv("NIGHTMILL_API_KEY", "sk-secret-01234")
    terminal._secrets.cache_clear()

    def broken(*_: object) -> None:
        raise KeyError(f"sk-secret-01234{EVIL}")

    monkeypatch.setattr(app, "build", broken)
    monkeypatch.setattr(sys, "argv", ["nightmill", "status"])
    with pytest.raises(SystemExit) as ended:
        app.execute()
    terminal._secrets.cache_clear()
    shown = capsys.readouterr().err
    assert ended.value.code == 1
    assert "in broken" in shown
    assert "KeyError: " in shown
    assert "[credential]" in shown
    assert "sk-secret" not in shown
    assert not set(shown) & set("\x1b\x9b\u202e")


def test_a_usage_error_shows_no_controls(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`nightmill results *` takes the names of files as arguments."""
    monkeypatch.setattr(sys, "argv", ["nightmill", "results", "a", EVIL])
    with pytest.raises(SystemExit) as ended:
        app.execute()
    shown = capsys.readouterr().err
    assert ended.value.code == 2
    assert r"(\x1b]0;owned\x07\x1b[2J" in shown
    assert not set(shown) & set("\x1b\x9b\u202e")
