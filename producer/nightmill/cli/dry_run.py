"""`--dry-run`: what a source would enqueue and cost, without Redis, a key or a call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import msgspec
import typer

from nightmill.cli.checking import told_of
from nightmill.enqueue.prepare import defaults_of
from nightmill.records.result import Usage
from nightmill.sources import Line, Rejected, Seen, Source, Summary, check_source, read_rejects

if TYPE_CHECKING:
    from nightmill.settings import Settings

FIRST: Final = 3
"""Jobs that are shown whole."""

BYTES_A_TOKEN: Final = 4
"""A rule of thumb for English; code and other scripts have fewer."""

BAD_INPUT: Final = 2


class _Ceiling(msgspec.Struct):
    max_tokens: int


class _Estimate:
    """What the jobs of a source come to."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.first: list[Line] = []
        self.input_tokens = 0
        self.output_tokens = 0
        self.attachments = 0
        self.dollars = 0.0
        self.unpriced: Counter[str] = Counter()
        self._ceiling = msgspec.json.Decoder(_Ceiling).decode

    def add(self, line: Line) -> None:
        """Count a job in, unless its id makes it a bad row."""
        if isinstance(self._seen.judge(line), Rejected):
            return
        if len(self.first) < FIRST:
            self.first.append(line)
        asked = -(-len(line.body) // BYTES_A_TOKEN)
        answered = self._ceiling(line.body).max_tokens
        self.input_tokens += asked
        self.output_tokens += answered
        self.attachments += line.body.count(b'"$file"')
        dollars = _cost(line.model, asked, answered)
        if dollars is None:
            self.unpriced[line.model] += 1
        else:
            self.dollars += dollars


def show_jobs(source: Source, settings: Settings, *, as_json: bool) -> None:
    """Print what `source` would enqueue. Exits with BAD_INPUT when a row would be refused.

    Raises SourceError for a source that cannot be read.
    """
    with TemporaryDirectory(prefix="nightmill-") as folder, closing(Seen()) as seen:
        estimate = _Estimate(seen)
        ids = Path(folder) / "ids.db"
        summary = check_source(source, defaults_of(settings), ids=ids, see=estimate.add)
        if as_json:
            typer.echo(msgspec.json.encode(_as_dict(summary, estimate)))
        else:
            for told in _told(summary, estimate):
                typer.echo(told)
    if summary.rejected:
        raise typer.Exit(BAD_INPUT)


def _cost(model: str, asked: int, answered: int) -> float | None:
    """Return US dollars at list price, None when no price is known here."""
    from nightmill.pricing.cost import cost  # noqa: PLC0415 - needs the store's extra

    try:
        return cost(model, Usage(input_tokens=asked, output_tokens=answered))
    except ModuleNotFoundError:
        return None


def _as_dict(summary: Summary, estimate: _Estimate) -> dict[str, object]:
    return {
        "jobs": summary.jobs,
        "refused": summary.rejected,
        "input_tokens": estimate.input_tokens,
        "max_output_tokens": estimate.output_tokens,
        "max_cost": None if estimate.unpriced else estimate.dollars,
        "attachments": estimate.attachments,
        "first": [
            {"custom_id": line.custom_id, "params": msgspec.Raw(line.body)}
            for line in estimate.first
        ],
        "rows_refused": [told_of(rejected) for rejected in read_rejects(summary)],
        "warnings": [msgspec.structs.asdict(warned) for warned in summary.warnings],
    }


def _told(summary: Summary, estimate: _Estimate) -> Iterator[str]:
    """Yield the report in words, a paragraph at a time."""
    for line in estimate.first:
        body = msgspec.json.format(line.body, indent=2).decode()
        yield f'line {line.number}, custom_id "{line.custom_id}":\n{body}\n'
    yield f"{summary.source}: {summary.jobs:,} jobs, {summary.rejected:,} rows refused"
    yield f"input   about {estimate.input_tokens:,} tokens ({BYTES_A_TOKEN} bytes each)"
    if estimate.attachments:
        yield f"        and {estimate.attachments:,} attachments, which are not counted"
    yield f"output  at most {estimate.output_tokens:,} tokens (every max_tokens used up)"
    yield f"cost    {_priced(summary.jobs, estimate)}"
    for warned in summary.warnings:
        yield f"warning: {warned.text} ({warned.count:,} lines, first line {warned.first})"
    for rejected in read_rejects(summary):
        yield f"refused: {rejected.error}"
    yield "nothing was enqueued: this is a dry run"


def _priced(jobs: int, estimate: _Estimate) -> str:
    dollars = f"at most ${estimate.dollars:,.4f}, by these tokens and list prices"
    if not estimate.unpriced:
        return dollars
    unpriced = sum(estimate.unpriced.values())
    models = ", ".join(sorted(estimate.unpriced))
    unknown = f"no price is known here for {models}"
    return unknown if unpriced == jobs else f"{dollars}; {unknown} ({unpriced:,} jobs)"
