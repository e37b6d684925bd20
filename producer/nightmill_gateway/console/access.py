"""What a caller of the console reaches. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill_gateway.access.caller import ALL, TENANT
from nightmill_gateway.answers.errors import ApiError, not_found

if TYPE_CHECKING:
    from nightmill_gateway.access.caller import Caller


def may_see(caller: Caller, name: str) -> bool:
    """Tell whether a caller reaches a batch by its name, or a single job by its id."""
    return caller.tenant in (ALL, tenant_of(name))


def require_sees(caller: Caller, name: str) -> None:
    """Raise ApiError unless the caller reaches a batch; it is as if there were none."""
    if not may_see(caller, name):
        raise not_found(f'batch "{name}"')


def tenant_of(name: str) -> str:
    """Return whose a batch, or a single job by its id, is: before its slash, else the default."""
    tenant, slash, _ = name.partition("/")
    return tenant if slash else TENANT


def require_all(caller: Caller) -> None:
    """Raise ApiError when the caller is of one tenant: lanes and workers serve all of them."""
    if caller.tenant != ALL:
        raise ApiError(403, "this page is about all tenants: log in with a key of --tenant '*'")
