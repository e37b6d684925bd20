"""Options that several commands share, as annotations; None means: the environment decides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

WIDE: Final = 160
"""Columns of what is no terminal: a pipe must not get names cut short or rows folded."""

RedisUrl = Annotated[
    str | None,
    typer.Option(help="Redis, such as redis://localhost:6379; none: the embedded Valkey."),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(help="Results store, such as postgresql://...; none: results.db in --data-dir."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Where the embedded Valkey and results.db live.  [default: .nightmill]"),
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="JSON Lines, CSV, TSV or Parquet (.gz, .zst), a directory, a URL; - is stdin.",
    ),
]
Fed = Annotated[
    str | None,
    typer.Option("--source", metavar="SOURCE", help="What was fed: finds the jobs missing."),
]
BatchName = Annotated[
    str | None,
    typer.Option("--batch", help="Name of the batch.  [default: the file's name without suffix]"),
]
Window = Annotated[
    int | None,
    typer.Option(min=0, help="Jobs in Redis at once, 0 for all.  [default: 50000]"),
]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave bad lines out; a side file tells which and why."),
]
Changed = Annotated[
    Literal["rerun", "keep"] | None,
    typer.Option(help="A request changed since its result was stored: run it again, or keep that."),
]
OnComplete = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Tell this address, signed, when the batch is done."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only show: the first jobs, counts, tokens, cost, bad rows."),
]
JSON_ALONE = "--json is for a dry run: add --dry-run"
Json = Annotated[bool, typer.Option("--json", help="The dry run as one JSON object.")]
Model = Annotated[str | None, typer.Option(help="Model of requests that name none.")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="max_tokens of those that name none.")]
