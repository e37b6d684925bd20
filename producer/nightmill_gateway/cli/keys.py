"""Make, list, adjust and revoke the keys of `nightmill serve`."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli import options
from nightmill.cli.terminal import echo, echo_json
from nightmill.errors import InvalidLimitError, SettingsError, StoreMissingError
from nightmill.records.access_key import AccessKey, Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from nightmill.records.key_limits import KeyLimits
    from nightmill.store.access_keys import AccessKeys

    T = TypeVar("T")

ANY: Final = "any"
"""What takes a limit away."""
MAX_TEXT: Final = 64
"""Longest name of a key or a tenant, characters."""


Betas = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="The anthropic-beta values that it may send, with commas, or none.  [default: any]",
    ),
]
Rpm = Annotated[
    str | None,
    typer.Option(metavar="N", help="Its requests a minute, over all gateways.  [default: any]"),
]
Concurrency = Annotated[
    str | None,
    typer.Option(metavar="N", help="Its requests at one time.  [default: any]"),
]
BudgetUsd = Annotated[
    str | None,
    typer.Option(
        metavar="AMOUNT/PERIOD",
        help="What its jobs may cost in each hour, day or month of UTC, as 50/day.  [default: any]",
    ),
]
Expires = Annotated[str | None, typer.Option(metavar="TIME", help="From now, as 90m, 24h or 7d.")]


def create(  # noqa: PLR0913 - each option of the command
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.")],
    *,
    role: Annotated[
        Role,
        typer.Option(
            help="viewer: reads. service: also creates, cancels, deletes. operator: also controls "
            "batches: pause, adjust, retry."
        ),
    ] = "service",
    tenant: Annotated[
        str,
        typer.Option(
            help="Keys of one tenant share batches and jobs; others see none. '*': the console "
            "shows all tenants."
        ),
    ] = "default",
    betas: Betas = None,
    rpm: Rpm = None,
    concurrency: Concurrency = None,
    budget_usd: BudgetUsd = None,
    expires: Expires = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Make a key and print it, this once: only a digest is stored.

    For example:

    nightmill keys create reports --tenant analytics --expires 90d

    nightmill keys create chat --rpm 600 --concurrency 50 --budget-usd 50/day
    """
    from nightmill.records.job import now_ms  # noqa: PLC0415 - `--help` stays fast
    from nightmill.records.key_limits import NO_LIMITS  # noqa: PLC0415
    from nightmill.store.access_keys import digest_of  # noqa: PLC0415
    from nightmill_gateway.access.caller import ALL  # noqa: PLC0415
    from nightmill_gateway.access.key import new_key  # noqa: PLC0415
    from nightmill_gateway.access.names import A_NAME, is_name  # noqa: PLC0415

    _require_text("NAME", name)
    if not is_name(tenant) and (tenant != ALL or role == "service"):
        allowed = f"{A_NAME}; '{ALL}' with the role viewer or operator"
        raise SettingsError(f"--tenant: given {tenant!r:.80}; allowed: {allowed}")
    key_id, key = new_key()
    now = now_ms()
    limits = _changed(NO_LIMITS, betas, rpm, concurrency, budget_usd)
    expires_at = None if expires is None else _end(expires, now)

    async def add(keys: AccessKeys) -> None:
        await keys.add(
            AccessKey(
                key_id=key_id,
                digest=digest_of(await keys.secret(), key),
                name=name,
                role=role,
                tenant=tenant,
                created_at=now,
                expires_at=expires_at,
                limits=limits,
            )
        )

    _with_keys(add, store_url=store_url, data_dir=data_dir, make=True)
    echo(key)
    echo("Keep it: it is not shown again. A client sends it as its API key.", err=True)


def list_(
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """List the keys by their ids with their limits and what they use of them.

    For example:

    nightmill keys list
    """
    import msgspec  # noqa: PLC0415 - `--help` stays fast

    from nightmill.records.job import now_ms  # noqa: PLC0415
    from nightmill_gateway.cli.key_table import print_keys, record, used_of  # noqa: PLC0415

    found = _with_keys(lambda keys: keys.all(), store_url=store_url, data_dir=data_dir)
    used = used_of(found, redis_url=redis_url, data_dir=data_dir)
    now = now_ms()
    if json:
        echo_json(msgspec.json.encode([record(key, used.get(key.key_id), now) for key in found]))
    elif not found:
        echo("no keys; make one: nightmill keys create NAME")
    else:
        print_keys(found, used, now)


def adjust(  # noqa: PLR0913 - each option of the command
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, nm_..., or the key.")],
    *,
    betas: Betas = None,
    rpm: Rpm = None,
    concurrency: Concurrency = None,
    budget_usd: BudgetUsd = None,
    expires: Expires = None,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Change the limits of a key from its next request on; `any` takes a limit away.

    For example:

    nightmill keys adjust nm_0123456789ab --rpm 1200 --budget-usd any
    """
    from nightmill.records.job import now_ms  # noqa: PLC0415 - `--help` stays fast
    from nightmill_gateway.access.key import id_of  # noqa: PLC0415
    from nightmill_gateway.cli.key_table import forget  # noqa: PLC0415

    if all(each is None for each in (betas, rpm, concurrency, budget_usd, expires)):
        raise SettingsError("give what is to change: --betas, --rpm, --concurrency, ...")
    key_id = id_of(key) or key
    now = now_ms()

    async def change(keys: AccessKeys) -> bool:
        found = await keys.get(key_id)
        if found is None:
            return False
        limits = _changed(found.limits, betas, rpm, concurrency, budget_usd)
        end = found.expires_at if expires is None else _end(expires, now)
        return await keys.change(key_id, limits, end)

    _require_known(_with_keys(change, store_url=store_url, data_dir=data_dir))
    if budget_usd == ANY:
        forget(key_id, redis_url=redis_url, data_dir=data_dir)
    echo(f"{key_id} has the new limits")


def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, nm_..., or the key.")],
    *,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Refuse a key from its next request on.

    For example:

    nightmill keys revoke nm_0123456789ab
    """
    from nightmill.records.job import now_ms  # noqa: PLC0415
    from nightmill_gateway.access.key import id_of  # noqa: PLC0415

    key_id = id_of(key) or key
    now = now_ms()
    _require_known(
        _with_keys(lambda keys: keys.revoke(key_id, now), store_url=store_url, data_dir=data_dir)
    )
    echo(f"{key_id} is revoked")


def _changed(
    limits: KeyLimits,
    betas: str | None,
    rpm: str | None,
    concurrency: str | None,
    budget_usd: str | None,
) -> KeyLimits:
    """Return `limits` with what is given. Raises SettingsError that names the option."""
    import msgspec  # noqa: PLC0415 - `--help` stays fast

    from nightmill.records import key_limits  # noqa: PLC0415

    given: dict[str, tuple[str | None, Callable[[str], object]]] = {
        "betas": (betas, key_limits.read_betas),
        "rpm": (rpm, partial(key_limits.read_number, "rpm")),
        "concurrency": (concurrency, partial(key_limits.read_number, "concurrency")),
        "budget": (budget_usd, key_limits.read_budget),
    }
    try:
        return msgspec.structs.replace(
            limits,
            **{
                name: None if text == ANY else read(text)
                for name, (text, read) in given.items()
                if text is not None
            },
        )
    except InvalidLimitError as error:
        raise SettingsError(f"--{error}") from None


def _end(expires: str, now: int) -> int | None:
    from nightmill.records.bounds import MAX_DATE_MS  # noqa: PLC0415
    from nightmill.records.limits import parse_seconds  # noqa: PLC0415

    if expires == ANY:
        return None
    try:
        lasts_s = parse_seconds(expires)
    except InvalidLimitError as error:
        raise SettingsError(f"--{error}") from None
    if not 0 < lasts_s <= (MAX_DATE_MS - now) / 1000:
        allowed = "a time above 0 and before the year 10000, such as 90m, 24h or 7d"
        raise SettingsError(f"--expires: given {expires!r:.80}; allowed: {allowed}")
    return now + int(lasts_s * 1000)


def _require_known(found: bool) -> None:
    if not found:
        raise SettingsError(
            "KEY: no key with this id that is not revoked; see: nightmill keys list"
        )


def _require_text(option: str, text: str) -> None:
    if not 0 < len(text) <= MAX_TEXT or not text.isprintable():
        raise SettingsError(
            f"{option}: given {text!r:.80}; allowed: 1 to {MAX_TEXT} printable characters"
        )


def _with_keys(
    work: Callable[[AccessKeys], Awaitable[T]],
    *,
    store_url: str | None,
    data_dir: object,
    make: bool = False,
) -> T:
    """Return what `work` returns on the keys of the results store; `make` one that is not there."""
    from nightmill.safety import private  # noqa: PLC0415
    from nightmill.settings import load_settings  # noqa: PLC0415
    from nightmill.store import ResultStore  # noqa: PLC0415
    from nightmill.store.access_keys import AccessKeys  # noqa: PLC0415

    settings = load_settings(store_url=store_url, data_dir=data_dir)
    if not make and private.missing(settings.store_at):
        raise StoreMissingError(
            f"no results store, so no keys: {settings.store_at} does not exist; set "
            "NIGHTMILL_DATA_DIR or NIGHTMILL_STORE_URL to the store of the gateway"
        )

    async def run() -> T:
        async with ResultStore.open(settings.store_at) as store:
            return await work(AccessKeys(store))

    return asyncio.run(run())
