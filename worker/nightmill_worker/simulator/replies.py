"""Responses as the endpoint sends them: JSON bodies, error bodies, request ids."""

import msgspec
from aiohttp import web

MESSAGE_ENCODER = msgspec.json.Encoder()
ERROR_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
ERROR_MESSAGES = {
    402: "There is a problem with your billing information.",
    403: "Your API key does not have permission to use the specified resource.",
    408: "The request timed out.",
    409: "The request conflicts with another one.",
    429: "This request would exceed your account's rate limit. Please try again later.",
    500: "Internal server error",
    504: "The request timed out while it was processed.",
    529: "Overloaded",
}
BLOCKED_BODY = b"<html><title>Blocked</title><p>This request was blocked. Incident 4711.</p></html>"
WRONG_TYPE_BODY = b"<html><body><h1>It works!</h1><p>A proxy answered.</p></body></html>"


def json_reply(status: int, value: object, headers: dict[str, str]) -> web.Response:
    """Answer `value` as JSON."""
    return web.Response(
        status=status,
        body=MESSAGE_ENCODER.encode(value),
        headers={"content-type": "application/json", **headers},
    )


def error_kind(status: int) -> str:
    """Return the error type the endpoint gives a status."""
    return ERROR_KINDS.get(status, "api_error")


def error_reply(
    status: int, kind: str, message: str, headers: dict[str, str], code: str = ""
) -> web.Response:
    """Answer an error body, which repeats the request id of `headers`."""
    details = {"details": {"error_code": code}} if code else {}
    body = {
        "type": "error",
        "error": {"type": kind, "message": message, **details},
        "request_id": headers.get("request-id"),
    }
    return json_reply(status, body, headers)


def wrong_type_reply(headers: dict[str, str]) -> web.Response:
    """Answer a 200 whose body is an HTML page, as a proxy might."""
    return web.Response(body=WRONG_TYPE_BODY, headers={"content-type": "text/html", **headers})


def blocked_reply(headers: dict[str, str]) -> web.Response:
    """Answer a 403 whose body is an HTML page, as a firewall does."""
    return web.Response(
        status=403, body=BLOCKED_BODY, headers={"content-type": "text/html", **headers}
    )
