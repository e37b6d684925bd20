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

from nightmill.cli.checking import reject_fields
from nightmill.cli.terminal import echo_data, echo_json
from nightmill.enqueue.prepare import defaults_of
from nightmill.pricing.cost import Prices
from nightmill.pricing.rules import billed_as
from nightmill.records.result import Usage
from nightmill.reports.labels import DryRunLabel
from nightmill.reports.progress import counted
from nightmill.sources import Line, Rejected, Source, Summary, UniqueIds, check_source, read_rejects

if TYPE_CHECKING:
    from nightmill.settings import Settings

FIRST: Final = 3
"""Jobs whose requests are printed."""

BYTES_PER_TOKEN: Final = 4
"""A rule of thumb for English; code and other scripts have fewer."""

BAD_INPUT: Final = 2

ALL_USABLE: Final = "every row is usable"


class _Asked(msgspec.Struct):
    """The parts of a request that say what it may cost."""

    max_tokens: int
    inference_geo: object = None
    speed: object = None


class _Estimate:
    """Sums over the jobs of a source."""

    def __init__(self, ids: UniqueIds, prices: Prices) -> None:
        self._ids = ids
        self.first: list[Line] = []
        self.input_tokens = 0
        self.output_tokens = 0
        """The sum of every max_tokens."""
        self.attachments = 0
        self.dollars = 0.0
        self.unpriced: Counter[str] = Counter()
        """Model without a known price -> jobs."""
        self._asked = msgspec.json.Decoder(_Asked).decode
        self._prices = prices

    def add(self, line: Line) -> None:
        """Add a job, unless its id came before: that is a bad row."""
        if isinstance(self._ids.check(line), Rejected):
            return
        if len(self.first) < FIRST:
            self.first.append(line)
        input_tokens = -(-len(line.body) // BYTES_PER_TOKEN)
        asked = self._asked(line.body)
        output_tokens = asked.max_tokens
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.attachments += line.body.count(b'"$file"')
        usage = Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            billed_as=billed_as(asked.inference_geo, asked.speed, ""),
        )
        dollars = self._cost(line.model, usage)
        if dollars is None:
            self.unpriced[line.model] += 1
        else:
            self.dollars += dollars

    def _cost(self, model: str, usage: Usage) -> float | None:
        """Return US dollars, None when the price is not known here."""
        try:
            return self._prices.cost(model, usage)
        except ModuleNotFoundError:  # without the store's extra
            return None


def show_jobs(source: Source, settings: Settings, *, as_json: bool) -> None:
    """Print what `source` would enqueue. Exits with BAD_INPUT when there are bad rows.

    Raises SourceError for a source that cannot be read.
    """
    with TemporaryDirectory(prefix="nightmill-") as folder, closing(UniqueIds()) as unique:
        estimate = _Estimate(unique, Prices(settings.prices))
        ids = Path(folder) / "ids.db"
        summary = check_source(source, defaults_of(settings), ids=ids, on_line=estimate.add)
        if as_json:
            echo_json(msgspec.json.encode(_as_dict(summary, estimate)))
        else:
            for paragraph in _report(summary, estimate):
                echo_data(paragraph)
    if summary.rejected:
        raise typer.Exit(BAD_INPUT)


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
            | msgspec.to_builtins(line.api)
            for line in estimate.first
        ],
        "rows_refused": [reject_fields(rejected) for rejected in read_rejects(summary)],
        "warnings": [msgspec.structs.asdict(warned) for warned in summary.warnings],
    }


def _report(summary: Summary, estimate: _Estimate) -> Iterator[str]:
    """Yield the report as text, one paragraph at a time."""
    for line in estimate.first:
        body = msgspec.json.format(line.body, indent=2).decode()
        headers = "".join(f"\n{name}: {value}" for name, value in line.api.headers().items())
        yield f'line {line.number}, custom_id "{line.custom_id}":{headers}\n{body}\n'
    bad = counted(summary.rejected, DryRunLabel.BAD_ROW) if summary.rejected else ALL_USABLE
    yield f"{summary.source}: {counted(summary.jobs, 'job')}, {bad}"
    per_token = f"{BYTES_PER_TOKEN} bytes per token"
    yield f"{DryRunLabel.INPUT:7} about {estimate.input_tokens:,} tokens ({per_token})"
    if estimate.attachments:
        attachments = counted(estimate.attachments, DryRunLabel.ATTACHMENT)
        yield f"{'':7} plus {attachments}, whose tokens are not counted"
    tokens = f"{estimate.output_tokens:,} tokens"
    yield f"{DryRunLabel.OUTPUT:7} at most {tokens} (when every job uses its max_tokens)"
    yield f"{DryRunLabel.COST:7} {_priced(summary.jobs, estimate)}"
    for warned in summary.warnings:
        yield f"{DryRunLabel.WARNING}: {warned.line()}"
    for mistake in summary.mistakes.lines(summary.jobs + summary.rejected):
        yield f"{DryRunLabel.BAD_ROW}: {mistake}"
    yield "nothing was enqueued: this is a dry run"


def _priced(jobs: int, estimate: _Estimate) -> str:
    dollars = f"at most ${estimate.dollars:,.4f} for these tokens, at list prices"
    if not estimate.unpriced:
        return dollars
    unpriced = sum(estimate.unpriced.values())
    models = ", ".join(sorted(estimate.unpriced))
    unknown = f"no price is known here for {models}"
    return unknown if unpriced == jobs else f"{dollars}; {unknown} ({counted(unpriced, 'job')})"
