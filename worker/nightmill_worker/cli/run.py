"""`nightmill run`: from a file of prompts to a file of results, all on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from nightmill.cli.accept_options import AcceptOptions, require_check
from nightmill.cli.grouped import grouped
from nightmill.cli.limit_options import LimitOptions
from nightmill.cli.options import FeedOptions, PlaceOptions, Source
from nightmill.cli.source_options import SourceOptions
from nightmill.errors import SettingsError, SourceError
from nightmill_worker.cli.worker import NO_CREDENTIAL

if TYPE_CHECKING:
    from nightmill import sources
    from nightmill.settings import Settings
    from nightmill_worker.simulator import SimulatorConfig

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Results file: JSON Lines, or .csv or .parquet.  [default: BATCH.results.jsonl]",
    ),
]
Processes = Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")]
NoCanary = Annotated[
    bool,
    typer.Option(
        "--no-canary", help="Keep going when the first 20 jobs in a row fail with the same error."
    ),
]
NO_WEBHOOK_SECRET = (
    "set NIGHTMILL_WEBHOOK_SECRET, which signs it: whsec_ and the base64 of 24 random bytes or more"  # noqa: S105 - says how to make one
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """The endpoint of a run: the configured one, or the simulator."""

    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Rehearse with a simulated endpoint: no key, no cost."),
    ] = False
    rpm: Annotated[
        int | None,
        typer.Option(min=1, help="Cap on requests a minute; with --simulate its rate limit."),
    ] = None
    itpm: Annotated[
        int | None, typer.Option(min=1, help="As --rpm, for input tokens a minute.")
    ] = None
    otpm: Annotated[
        int | None, typer.Option(min=1, help="As --rpm, for output tokens a minute.")
    ] = None
    latency: Annotated[
        float, typer.Option(min=0, help="With --simulate: mean duration of a call, seconds.")
    ] = 1.0

    def caps(self) -> dict[str, int | None]:
        """Return the caps of a real endpoint; those of a simulated one are its own limits."""
        return {} if self.simulate else {"rpm": self.rpm, "itpm": self.itpm, "otpm": self.otpm}

    def simulator(self, schema: object = None) -> SimulatorConfig | None:
        """Return the simulator to start, None for the configured endpoint.

        Its answers fit `schema`, a JSON Schema, unless that is None.
        """
        if not self.simulate:
            return None
        from nightmill_worker.simulator import ConfigError  # noqa: PLC0415 - needs aiohttp
        from nightmill_worker.simulator.config import make_config  # noqa: PLC0415

        text = None if schema is None else json.dumps(schema)
        limits = {"rpm": self.rpm, "itpm": self.itpm, "otpm": self.otpm, "schema": text}
        try:
            return make_config({"latency_s": self.latency, "jitter": 0.3, **limits})
        except ConfigError as error:
            raise SettingsError(f"--simulate: {error}") from None


@grouped
def run(  # noqa: PLR0913 - one parameter an option or group: that is typer's interface
    source: Source,
    *,
    output: Output = None,
    rows: SourceOptions,
    feed: FeedOptions,
    processes: Processes = 1,
    no_canary: NoCanary = False,
    limits: LimitOptions,
    accept: AcceptOptions,
    endpoint: EndpointOptions,
    places: PlaceOptions,
) -> None:
    """Run a file of prompts to a file of results.

    A file is checked whole first: nothing is enqueued while a row is bad. After an interruption,
    run the same command again: it goes on where it stopped.

    With --prompt, --image or --document, a template makes a job of every row. Without them, each
    row is a request: {"prompt": ...} and other request fields, or {"custom_id": ..., "params":
    {...}}.

    Exit codes: 0 all succeeded, 1 some failed, were cancelled or expired, or a worker did not stop
    cleanly, 2 bad usage or input, 3 stopped with jobs left, 130 interrupted.

    The first Ctrl-C or SIGTERM lets calls in flight finish, for NIGHTMILL_GRACE_S seconds at most.
    A second one stops at once; those calls would be paid for again.

    For example:

    nightmill run prompts.jsonl -o results.jsonl

    nightmill run reviews.csv --prompt 'Sum up: {{ text }}' --id id --dry-run

    nightmill run photos/ --image path --prompt 'Who is it?' --set max_tokens=99

    nightmill run prompts.jsonl --simulate --rpm 600

    NIGHTMILL_RPM=600 nightmill run prompts.jsonl --processes 2 --max-tokens 500

    nightmill run prompts.jsonl --budget-usd 25 --expires 8h

    nightmill run prompts.jsonl --on-truncated grow --max-tokens-ceiling 8192

    nightmill run prompts.jsonl --on-truncated fail --on-refusal fail

    nightmill run in.csv --prompt @ask.txt --schema s.json -o out.parquet
    """
    change, accepted = limits.change(), accept.accepted()
    if feed.dry_run:
        from nightmill.cli.dry_run import show_jobs  # noqa: PLC0415

        settings = _own_endpoint(feed.settings(places, rehearsal=endpoint.simulate or None))
        show_jobs(rows.source(source), settings, as_json=feed.json)
        return
    from nightmill.cli.checking import (  # noqa: PLC0415 - fast `--help`
        batch_name,
        checked_source,
        require_apart,
        unless_fed_before,
    )
    from nightmill.cli.file_names import file_of  # noqa: PLC0415
    from nightmill.enqueue.prepare import defaults_of  # noqa: PLC0415
    from nightmill.export.outputs import require_writable  # noqa: PLC0415
    from nightmill_worker.cli.places import require_places  # noqa: PLC0415
    from nightmill_worker.machine.serving import early_redis  # noqa: PLC0415

    given = rows.source(source)
    settings = _settings(feed, places, endpoint, given, canary=0 if no_canary else None)
    name = batch_name(given, feed.batch, rehearsal=settings.rehearsal)
    settings = settings.model_copy(update={"only_batch": name})
    require_check(accepted, settings)
    if feed.on_complete:
        _require_webhook(feed.on_complete, settings)
    out = output or Path(file_of(name, ".results.jsonl"))
    require_apart(given, out)
    require_writable(out)
    defaults = defaults_of(settings)
    with (
        _readable(given) as readable,
        unless_fed_before(
            readable,
            defaults,
            name,
            settings,
            checked_source(readable, defaults, name, skip_bad=feed.skip_bad),
        ) as checked,
    ):
        require_places(settings)  # only now: a refused file leaves no data directory
        with early_redis(settings) as redis:
            from nightmill_worker.cli.running import Plan, run_plan  # noqa: PLC0415 - while it starts

            plan = Plan(
                batch=name,
                out=out,
                processes=processes,
                changed=feed.changed_of(settings),
                limits=change,
                accepted=accepted,
                on_complete=feed.on_complete,
                simulator=endpoint.simulator(accepted.get("schema")),
                redis=redis,
            )
            code = asyncio.run(run_plan(settings, checked, plan))
    raise typer.Exit(code)


def _settings(
    feed: FeedOptions,
    places: PlaceOptions,
    endpoint: EndpointOptions,
    source: sources.Source,
    *,
    canary: int | None,
) -> Settings:
    """Return the settings of a run. Raises SettingsError, also when there is no credential."""
    settings = feed.settings(
        places,
        rehearsal=endpoint.simulate or None,
        canary=canary,
        **endpoint.caps(),
    )
    if not settings.attach_roots:
        settings = settings.model_copy(update={"attach_roots": _source_folder(source)})
    if not endpoint.simulate and not settings.has_credential:
        raise SettingsError(f"{NO_CREDENTIAL}; or rehearse without one: add --simulate")
    return _own_endpoint(settings)


def _own_endpoint(settings: Settings) -> Settings:
    """Return settings that say that the endpoint is known: the workers are the run's own."""
    return settings.model_copy(update={"base_url": settings.base_url})


def _require_webhook(url: str, settings: Settings) -> None:
    """Raise SettingsError unless a signed webhook can be sent to `url`."""
    from nightmill.queue.webhooks import require_url  # noqa: PLC0415

    require_url(url)
    if not settings.webhook_secret:
        raise SettingsError(f"--on-complete: {NO_WEBHOOK_SECRET}")


def _source_folder(source: sources.Source) -> str:
    """Return the ATTACH_ROOTS of a run when none is set: the folder of its source."""
    from nightmill.sources import folder_of  # noqa: PLC0415

    folder = folder_of(source.location)
    root = folder if "://" in folder else str(Path(folder).resolve())
    return json.dumps([root])  # as JSON: a plain ATTACH_ROOTS would be split at a colon


@contextlib.contextmanager
def _readable(source: sources.Source) -> Iterator[sources.Source]:
    """Yield a source that can be read twice: a stream is copied to a file first."""
    from nightmill.sources import open_as_it_is  # noqa: PLC0415

    if not source.once:
        yield source
        return
    with tempfile.NamedTemporaryFile(prefix="nightmill-") as copy:
        with open_as_it_is(source.location) as stream:
            shutil.copyfileobj(stream, copy)
        copy.flush()
        if not copy.tell():
            raise SourceError(f"{source}: it is empty; give one JSON object a line")
        yield msgspec.structs.replace(source, location=copy.name, name=str(source))
