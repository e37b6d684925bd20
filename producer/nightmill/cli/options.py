"""Options that several commands share. None means that the option is not given."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from nightmill.errors import SettingsError

if TYPE_CHECKING:
    from nightmill.settings import Settings

WIDE: Final = 160
"""Columns of output that goes to a pipe or a file: wide enough that no name or row is cut."""

RedisUrl = Annotated[
    str | None,
    typer.Option(
        help="Redis, such as redis://localhost:6379.  [default: the embedded Valkey of --data-dir]"
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        help="Results store, such as postgresql://...  [default: results.db in --data-dir]"
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Directory of the embedded Valkey and of results.db.  [default: .nightmill]"),
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="JSON, CSV, TSV or Parquet, also packed (.gz, .zip); a directory, a URL; - is stdin.",
    ),
]
FedSource = Annotated[
    str | None,
    typer.Option("--source", metavar="SOURCE", help="The source that was fed; finds missing jobs."),
]
BatchName = Annotated[
    str | None,
    typer.Option("--batch", help="Name of the batch.  [default: the file's name without suffix]"),
]
Window = Annotated[
    int | None,
    typer.Option(min=0, help="Jobs of the batch in Redis at once; 0: all.  [default: 50000]"),
]
Model = Annotated[str | None, typer.Option(help="Model of requests that name none.")]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="max_tokens of requests that name none.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOptions:
    """Where a command finds Redis and the results store."""

    redis_url: RedisUrl = None
    store_url: StoreUrl = None
    data_dir: DataDir = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedOptions:
    """How `run` and `enqueue` feed a source: the same options for both."""

    batch: BatchName = None
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only show the first jobs, bad rows, token counts and cost; enqueue nothing.",
        ),
    ] = False
    json: Annotated[bool, typer.Option("--json", help="With --dry-run: print one JSON object.")] = (
        False
    )
    window: Window = None
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Skip bad rows and list them in BATCH.rejected.jsonl."),
    ] = False
    changed: Annotated[
        Literal["rerun", "keep"] | None,
        typer.Option(
            help="If a request is not the stored or queued one: run the new one, or keep the old."
        ),
    ] = None
    on_complete: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Post a signed webhook there when the batch is done."),
    ] = None
    no_preflight: Annotated[
        bool,
        typer.Option(
            "--no-preflight",
            help="Enqueue also what the endpoint would refuse by API version and model.",
        ),
    ] = False
    model: Model = None
    max_tokens: MaxTokens = None

    def changed_of(self, settings: Settings) -> Literal["rerun", "keep"] | None:
        """Return what to do with changed requests; a rehearsal runs them again: nothing is paid."""
        return self.changed or ("rerun" if settings.rehearsal else None)

    def settings(self, places: PlaceOptions, **more: object) -> Settings:
        """Return the environment's settings with these options and `more` applied.

        Raises SettingsError, also for --json without --dry-run.
        """
        from nightmill.settings import load_settings  # noqa: PLC0415 - `--help` stays fast

        if self.json and not self.dry_run:
            raise SettingsError("--json is for a dry run: add --dry-run")
        return load_settings(
            window=self.window,
            model=self.model,
            max_tokens=self.max_tokens,
            preflight=False if self.no_preflight else None,
            **asdict(places),
            **more,
        )
