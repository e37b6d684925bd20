"""`nightmill run`: a file of prompts in, a file of results out, everything on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from nightmill.cli import options
from nightmill.cli.grouped import grouped
from nightmill.cli.inputs import Shaping
from nightmill.cli.limiting import Limiting
from nightmill.errors import SettingsError, SourceError
from nightmill_worker.cli.worker import NO_CREDENTIAL

if TYPE_CHECKING:
    from nightmill.settings import Settings
    from nightmill.sources import Source

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Results file.  [default: IN.results.jsonl]"),
]
Processes = Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")]
Simulate = Annotated[
    bool, typer.Option("--simulate", help="Rehearse against the simulator: no key, no cost.")
]
Rpm = Annotated[int | None, typer.Option(min=1, help="Cap, or the simulator's limit.")]
NoCanary = Annotated[
    bool, typer.Option("--no-canary", help="Do not pause a batch after 20 like failures in a row.")
]
NO_WEBHOOK_SECRET = (
    "set NIGHTMILL_WEBHOOK_SECRET, which signs it: whsec_ and the base64 of 24 random bytes or more"  # noqa: S105 - says how to make one
)
Latency = Annotated[float, typer.Option(min=0, help="The simulator's mean call, seconds.")]


@grouped
def run(  # noqa: PLR0913 - one parameter an option: that is typer's interface
    source: options.Source,
    *,
    output: Output = None,
    batch: options.BatchName = None,
    shaping: Shaping,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    processes: Processes = 1,
    model: options.Model = None,
    max_tokens: options.MaxTokens = None,
    skip_bad: options.SkipBad = False,
    changed: options.Changed = None,
    on_complete: options.OnComplete = None,
    window: options.Window = None,
    no_canary: NoCanary = False,
    limiting: Limiting,
    simulate: Simulate = False,
    rpm: Rpm = None,
    itpm: Rpm = None,
    otpm: Rpm = None,
    latency: Latency = 1.0,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Run a file of prompts to a file of results; run it again to go on where it stopped.

    With --prompt, --image or --document any row becomes a job; without, a row is one: {"prompt":
    ...} and other request fields, or {"custom_id": ..., "params": {...}}.

    Exit codes: 0 all succeeded, 1 some failed, 2 bad usage or input, 3 stopped with jobs left,
    130 interrupted (Ctrl-C lets calls under way finish, a second one gives them back at once).

    For example:

    nightmill run prompts.jsonl -o results.jsonl

    nightmill run reviews.csv --prompt 'Summarise: {{ text }}' --id review --dry-run

    nightmill run photos/ --image path --prompt 'What is on it?' --set max_tokens=200

    nightmill run prompts.jsonl --simulate --rpm 600

    NIGHTMILL_RPM=600 nightmill run prompts.jsonl --processes 2 --max-tokens 500

    nightmill run prompts.jsonl --budget-usd 25 --expires 8h
    """
    from nightmill.cli.checking import batch_name, checked_source  # noqa: PLC0415 - fast `--help`
    from nightmill.cli.dry_run import show_jobs  # noqa: PLC0415
    from nightmill.enqueue.prepare import defaults_of  # noqa: PLC0415
    from nightmill.settings import PREFIX, load_settings  # noqa: PLC0415

    limits = limiting.change()
    given = shaping.source(source)
    if json and not dry_run:
        raise SettingsError(options.JSON_ALONE)
    if dry_run:
        show_jobs(given, load_settings(model=model, max_tokens=max_tokens), as_json=json)
        return
    name = batch_name(given, batch)
    settings = load_settings(
        model=model,
        max_tokens=max_tokens,
        window=window,
        redis_url=redis_url,
        store_url=store_url,
        data_dir=data_dir,
        rehearsal=simulate or None,
        canary=0 if no_canary else None,
        only_batch=name,
        attach_roots=os.environ.get(PREFIX + "ATTACH_ROOTS") or _own_folder(given),
        **({} if simulate else {"rpm": rpm, "itpm": itpm, "otpm": otpm}),
    )
    if not simulate and not settings.has_credential:
        raise SettingsError(f"{NO_CREDENTIAL}; or rehearse without one: add --simulate")
    if on_complete:
        _require_hook(on_complete, settings)
    defaults = defaults_of(settings)
    with (
        _readable(given) as readable,
        checked_source(readable, defaults, name, skip_bad=skip_bad) as checked,
    ):
        from nightmill_worker.cli.running import Plan, run_plan  # noqa: PLC0415
        from nightmill_worker.simulator import SimulatorConfig  # noqa: PLC0415

        simulator = None
        if simulate:
            simulator = SimulatorConfig(
                latency_s=latency, jitter=0.3, rpm=rpm, itpm=itpm, otpm=otpm
            )
        plan = Plan(
            batch=name,
            out=output or Path(f"{name}.results.jsonl"),
            processes=processes,
            changed=changed,
            limits=limits,
            on_complete=on_complete,
            simulator=simulator,
        )
        code = asyncio.run(run_plan(settings, checked, plan))
    raise typer.Exit(code)


def _require_hook(url: str, settings: Settings) -> None:
    """Raise SettingsError unless a webhook can go to `url`, signed."""
    from nightmill.queue.webhooks import require_url  # noqa: PLC0415

    require_url(url)
    if not settings.webhook_secret:
        raise SettingsError(f"--on-complete: {NO_WEBHOOK_SECRET}")


def _own_folder(source: Source) -> str:
    """Return the root of a run's attachments unless another is set: where its source lies."""
    from nightmill.sources import folder_of  # noqa: PLC0415

    folder = folder_of(source.location)
    root = folder if "://" in folder else str(Path(folder).resolve())
    return json.dumps([root])  # a colon in it would part it


@contextlib.contextmanager
def _readable(source: Source) -> Iterator[Source]:
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
