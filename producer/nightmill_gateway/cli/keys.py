"""Make, list and revoke the keys of `nightmill serve`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli import options
from nightmill.cli.terminal import echo, echo_json
from nightmill.errors import InvalidLimitError, SettingsError, StoreMissingError
from nightmill.records.access_key import AccessKey, Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from nightmill.store.access_keys import AccessKeys

    T = TypeVar("T")

MAX_TEXT: Final = 64
"""Longest name of a key or a tenant, characters."""


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
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="From now, as 90m, 24h or 7d.")
    ] = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Make a key and print it, this once: only a digest is stored.

    For example:

    nightmill keys create reports --tenant analytics --expires 90d
    """
    from nightmill.cli.limit_options import parse_seconds  # noqa: PLC0415 - `--help` stays fast
    from nightmill.records.job import now_ms  # noqa: PLC0415
    from nightmill.store.access_keys import digest_of  # noqa: PLC0415
    from nightmill_gateway.access.caller import ALL  # noqa: PLC0415
    from nightmill_gateway.access.key import new_key  # noqa: PLC0415
    from nightmill_gateway.access.names import A_NAME, is_name  # noqa: PLC0415

    _require_text("NAME", name)
    if not is_name(tenant) and (tenant != ALL or role == "service"):
        allowed = f"{A_NAME}; '{ALL}' with the role viewer or operator"
        raise SettingsError(f"--tenant: given {tenant!r:.80}; allowed: {allowed}")
    try:
        lasts_s = None if expires is None else parse_seconds(expires)
    except InvalidLimitError as error:
        raise SettingsError(f"--{error}") from None
    key_id, key = new_key()
    now = now_ms()

    async def add(keys: AccessKeys) -> None:
        await keys.add(
            AccessKey(
                key_id=key_id,
                digest=digest_of(await keys.secret(), key),
                name=name,
                role=role,
                tenant=tenant,
                created_at=now,
                expires_at=None if lasts_s is None else now + int(lasts_s * 1000),
            )
        )

    _with_keys(add, store_url=store_url, data_dir=data_dir, make=True)
    echo(key)
    echo("Keep it: it is not shown again. A client sends it as its API key.", err=True)


def list_(
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """List the keys by their ids, without what is secret in them.

    For example:

    nightmill keys list
    """
    import msgspec  # noqa: PLC0415 - `--help` stays fast

    from nightmill.records.job import now_ms  # noqa: PLC0415

    found = _with_keys(lambda keys: keys.all(), store_url=store_url, data_dir=data_dir)
    now = now_ms()
    if json:
        echo_json(msgspec.json.encode([_record(key, now) for key in found]))
    elif not found:
        echo("no keys; make one: nightmill keys create NAME")
    else:
        _print_table(found, now)


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
    was = _with_keys(lambda keys: keys.revoke(key_id, now), store_url=store_url, data_dir=data_dir)
    if not was:
        raise SettingsError(
            "KEY: no key with this id that is not revoked; see: nightmill keys list"
        )
    echo(f"{key_id} is revoked")


def _record(key: AccessKey, now: int) -> dict[str, object]:
    from nightmill.export.lines import rfc3339  # noqa: PLC0415

    return {
        "id": key.key_id,
        "name": key.name,
        "role": key.role,
        "tenant": key.tenant,
        "state": _state(key, now),
        "created_at": rfc3339(key.created_at),
        "expires_at": rfc3339(key.expires_at),
        "revoked_at": rfc3339(key.revoked_at),
    }


def _state(key: AccessKey, now: int) -> str:
    from nightmill.reports.labels import KeyState  # noqa: PLC0415

    if key.revoked_at is not None:
        return KeyState.REVOKED
    return KeyState.VALID if key.valid(now) else KeyState.EXPIRED


def _print_table(found: list[AccessKey], now: int) -> None:
    import sys  # noqa: PLC0415

    from nightmill.cli.console import VisibleConsole  # noqa: PLC0415
    from nightmill.cli.fitted import FittedTable  # noqa: PLC0415
    from nightmill.reports.labels import KeyColumn  # noqa: PLC0415

    table = FittedTable([*KeyColumn], text_columns=len(KeyColumn))
    for key in found:
        shown = _record(key, now)
        expires = str(shown["expires_at"] or "never")[:10]
        table.add(key.key_id, key.name, key.role, key.tenant, _state(key, now), expires)
    VisibleConsole(width=None if sys.stdout.isatty() else options.WIDE).print(table)


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
