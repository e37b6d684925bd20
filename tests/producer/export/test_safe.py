"""Exports that are opened by a spreadsheet or shown on a terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from nightmill.errors import ExportError
from nightmill.export import Format, export, export_jsonl
from nightmill.sources import source_of
from nightmill.store import ResultStore
from tests.producer.store.samples import numbered

FORMULAS = ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1"]
CONTROLS = "\x1b]0;owned\x07\x9b31m\u202e\rx"


def message(text: str) -> msgspec.Raw:
    """Return a message with a text."""
    return msgspec.Raw(msgspec.json.encode({"content": [{"type": "text", "text": text}]}))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ResultStore]:
    """Open a store whose answers are formulas, an ordinary text, and one with controls."""
    texts = [*FORMULAS, "1=1", CONTROLS]
    async with ResultStore.open(tmp_path / "results.db") as opened:
        await opened.record([numbered(n, message=message(t)) for n, t in enumerate(texts)])
        yield opened


async def cells(store: ResultStore, out: Path, *, excel_safe: bool) -> list[str]:
    """Return the answers of a CSV export."""
    fields = ["text", "cost"]
    await export(store, "night", out, format="csv", fields=fields, excel_safe=excel_safe)
    with out.open(newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


async def test_formulas_are_guarded_when_asked_for(store: ResultStore, tmp_path: Path) -> None:
    """A spreadsheet runs a cell such as =HYPERLINK(...), which an answer may hold."""
    found = await cells(store, tmp_path / "o.csv", excel_safe=True)
    assert found == [*(f"'{text}" for text in FORMULAS), "1=1", CONTROLS]


async def test_data_is_not_altered_unless_asked_for(store: ResultStore, tmp_path: Path) -> None:
    """Programs that read a CSV file get the answers as they came."""
    found = await cells(store, tmp_path / "o.csv", excel_safe=False)
    assert found == [*FORMULAS, "1=1", CONTROLS]


async def test_names_of_columns_are_guarded_too(store: ResultStore, tmp_path: Path) -> None:
    """Those of the source come from its file."""
    rows = [{"custom_id": f"line-{n}", "prompt": "x", "=cmd": "-5"} for n in range(9)]
    lines = tmp_path / "in.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "o.csv"
    source = source_of(str(lines))
    await export(store, "night", out, format="csv", source=source, excel_safe=True)
    with out.open(newline="") as file:
        header, *_ = csv.reader(file)
    assert "'=cmd" in header
    assert "=cmd" not in header


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
async def test_only_csv_is_guarded(store: ResultStore, tmp_path: Path, kind: Format) -> None:
    """Silence would make a user believe that other formats are altered."""
    with pytest.raises(ExportError, match="--excel-safe is for --format csv"):
        await export(store, "night", tmp_path / "o", format=kind, excel_safe=True)


async def test_a_planted_link_is_not_written_to(store: ResultStore, tmp_path: Path) -> None:
    """In /tmp, another user could guess the name of the file that an export writes first."""
    victim, out = tmp_path / "victim", tmp_path / "o.jsonl"
    victim.write_text("precious")
    (tmp_path / f".{out.name}.{os.getpid()}.tmp").symlink_to(victim)
    await export_jsonl(store, "night", out)
    assert victim.read_text() == "precious"
    assert not out.is_symlink()
    assert out.stat().st_size


class Terminal(io.TextIOWrapper):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """Write to a terminal from now on; return what it gets."""
    got = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(got, encoding="utf-8"))
    return got


async def test_an_export_to_a_terminal_does_not_control_it(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON escapes the controls of ASCII, but not those of C1, and CSV none."""
    got = terminal(monkeypatch)
    await export(store, "night", "-", format="csv", fields=["text"])
    await export_jsonl(store, "night", "-")
    shown = got.getvalue().decode()
    assert not set(shown) & set("\x1b\x07\x9b\u202e")
    assert r"\u001b]0;owned\u0007\u009b31m\u202e\u000dx" in shown
    last = json.loads(shown.splitlines()[-1])
    assert last["result"]["message"]["content"][0]["text"] == CONTROLS


async def test_an_export_to_a_pipe_is_not_altered(
    store: ResultStore, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """It is data."""
    await export(store, "night", "-", format="csv", fields=["text"])
    assert CONTROLS.encode() in capfdbinary.readouterr().out


async def test_parquet_is_not_for_a_terminal(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is binary."""
    got = terminal(monkeypatch)
    with pytest.raises(ExportError, match="give a file"):
        await export(store, "night", "-", format="parquet")
    assert got.getvalue() == b""
