"""Who gets in: keys, roles, and callers on this machine without a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from nightmill.records.access_key import Role
from nightmill.store.access_keys import AccessKeys
from nightmill_gateway.access.caller import ByKey, OnThisMachine
from nightmill_gateway.access.key import id_of, key_in, new_key
from nightmill_gateway.answers.errors import ApiError
from tests.gateway.door import opened

if TYPE_CHECKING:
    from tests.gateway.door import Door
    from tests.rig import Rig

PATH = "/v1/nothing"
"""No route: who gets in gets a 404."""


async def test_no_key_no_service(door: Door) -> None:
    """Anyone who reaches the port could spend the account's money."""
    for key in ("", "wrong", new_key()[1], door.key[:-1] + "!", door.key + "x"):
        answer = await door("GET", PATH, key=key)
        assert answer.error == (401, "authentication_error"), key


async def test_both_ways_to_send_a_key_are_taken(door: Door) -> None:
    """The SDKs send x-api-key or a Bearer token, as their user configured them."""
    assert (await door("GET", PATH)).status == 404
    for scheme in ("Bearer", "bearer"):
        given = {"authorization": f"{scheme} {door.key}"}
        assert (await door("GET", PATH, key="", headers=given)).status == 404
    assert (await door("GET", PATH, key="", headers={"authorization": "Basic eDp5"})).status == 401


async def test_a_revoked_or_expired_key_is_refused_at_once(door: Door) -> None:
    """A key that has leaked must not work for another minute."""
    assert (await door("GET", PATH, key=await door.key_of(expires_at=1))).status == 401
    key = await door.key_of()
    assert (await door("GET", PATH, key=key)).status == 404
    keys, key_id = AccessKeys(door.services.store), id_of(key)
    assert key_id is not None
    assert await keys.revoke(key_id, 1)
    assert (await door("GET", PATH, key=key)).status == 401
    assert not await keys.revoke(key_id, 2), "it was revoked already"


async def test_a_viewer_only_reads(door: Door) -> None:
    """A dashboard's key must not be able to spend money."""
    key = await door.key_of(role="viewer")
    assert (await door("GET", PATH, key=key)).status == 404
    for method in ("POST", "DELETE", "PUT"):
        assert (await door(method, PATH, key=key)).error == (403, "permission_error")


@pytest.mark.parametrize("role", get_args(Role))
async def test_what_each_role_may_do(door: Door, role: Role) -> None:
    """Only a viewer may not create; only an operator may control batches."""
    key = await door.key_of(role=role)
    for method in ("POST", "DELETE"):
        assert (await door(method, PATH, key=key)).status == (403 if role == "viewer" else 404)
    caller = await ByKey(
        AccessKeys(door.services.store), await AccessKeys(door.services.store).secret()
    ).caller({"x-api-key": key})
    if role == "operator":
        caller.require_operator()
    else:
        with pytest.raises(ApiError, match=f"the role {role}: use one with the role operator"):
            caller.require_operator()


async def test_the_store_has_no_key(door: Door) -> None:
    """A backup of the store must not let its reader in."""
    (stored,) = await AccessKeys(door.services.store).all()
    assert door.key not in str(stored)
    assert door.key.removeprefix(stored.key_id) not in str(stored)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404),
        ({"host": "localhost:8480"}, 404),
        ({"host": "[::1]:8480"}, 404),
        ({"host": "evil.example"}, 403),
        ({"host": "localhost.evil.example"}, 403),
        ({"host": "[oops"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "localhost:8480", "origin": "http://localhost:8480"}, 404),
        ({"host": "localhost:8480", "origin": "http://localhost:9"}, 403),
    ],
)
async def test_without_keys_no_page_of_a_browser_gets_in(
    rig: Rig, headers: dict[str, str], status: int
) -> None:
    """A page of another site can reach this machine's ports, also under a name of its own."""
    async with opened(rig.settings, access=OnThisMachine()) as door:
        answer = await door("GET", PATH, key="", headers=headers)
        assert answer.status == status
        posted = await door(
            "POST", PATH, key="", data=b"x=1", headers={"content-type": "text/plain"}
        )
        assert posted.error == (415, "invalid_request_error"), "a form needs no preflight"


def test_the_key_in_the_headers() -> None:
    """Spaces around a key come from copying it."""
    assert key_in({"x-api-key": " k "}) == "k"
    assert key_in({"authorization": "Bearer  k "}) == "k"
    assert key_in({"x-api-key": "a", "authorization": "Bearer b"}) == "a"
    assert key_in({"authorization": "Basic k"}) == key_in({}) == ""
