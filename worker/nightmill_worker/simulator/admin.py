"""The admin routes: read the counts, read the config, change the config while it runs."""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from nightmill_worker.simulator.config import ConfigError, change_config
from nightmill_worker.simulator.endpoint import Endpoint
from nightmill_worker.simulator.replies import error_reply, json_reply

HIDDEN = "***"


def stats(endpoint: Endpoint) -> dict[str, object]:
    """Return the totals since the last reset.

    `billed` has the sums of the usage of whole answers.
    `utilisation` is, per limit, units used over units refilled. It is above 1 while calls empty a
    full bucket. `first_request_at` and `last_response_at` are Unix times in seconds, None before
    the first call.
    """
    ledger, limiter, now = endpoint.ledger, endpoint.limiter, endpoint.clock()
    to_wall = endpoint.wall() - now
    first, last = ledger.first_request_at, ledger.last_response_at
    return {
        "totals": ledger.totals,
        "statuses": ledger.statuses,
        "billed": ledger.billed,
        "prompts": len(ledger.prompts),
        "answered_more_than_once": ledger.answered_more_than_once,
        "answered_per_s": ledger.answered_per_s(),
        "in_flight": limiter.in_flight,
        "max_in_flight": limiter.max_in_flight,
        "utilisation": limiter.utilisation(now),
        "first_request_at": None if first is None else first + to_wall,
        "last_response_at": None if last is None else last + to_wall,
    }


async def _get_health(_endpoint: Endpoint, _request: web.BaseRequest) -> web.Response:
    return json_reply(200, {"status": "ok"}, {})


async def _get_calls(endpoint: Endpoint, _request: web.BaseRequest) -> web.Response:
    return json_reply(200, {"prompts": endpoint.ledger.prompts}, {})


async def _get_stats(endpoint: Endpoint, _request: web.BaseRequest) -> web.Response:
    return json_reply(200, stats(endpoint), {})


async def _get_config(endpoint: Endpoint, _request: web.BaseRequest) -> web.Response:
    fields = msgspec.to_builtins(endpoint.config)
    if fields["auth"] is not None:
        fields["auth"] = HIDDEN
    return json_reply(200, fields, {})


async def _post_config(endpoint: Endpoint, request: web.BaseRequest) -> web.Response:
    """Change the fields of the JSON object in the body; a 400 names the field that is wrong."""
    try:
        changes = msgspec.json.decode(await request.read(), type=dict[str, object])
        endpoint.configure(change_config(endpoint.config, changes))
    except (ConfigError, msgspec.DecodeError) as error:
        return error_reply(400, "invalid_request_error", str(error), {})
    return await _get_config(endpoint, request)


async def _post_reset(endpoint: Endpoint, _request: web.BaseRequest) -> web.Response:
    endpoint.reset()
    return json_reply(200, stats(endpoint), {})


AdminRoute = Callable[[Endpoint, web.BaseRequest], Awaitable[web.Response]]
ADMIN_ROUTES: dict[str, dict[str, AdminRoute]] = {
    "/healthz": {"GET": _get_health},
    "/admin/calls": {"GET": _get_calls},
    "/admin/stats": {"GET": _get_stats},
    "/admin/config": {"GET": _get_config, "POST": _post_config},
    "/admin/reset": {"POST": _post_reset},
}
