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
    Path,
    typer.Argument(metavar="IN.jsonl", help="One JSON object a line; - reads standard input."),
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
Model = Annotated[str | None, typer.Option(help="Model of requests that name none.")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="max_tokens of those that name none.")]
