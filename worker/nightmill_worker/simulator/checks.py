"""Checks before the limits: credential, headers, size, and whether the account is stopped."""

import hmac

from aiohttp import web

from nightmill_worker.simulator.config import SimulatorConfig
from nightmill_worker.simulator.ratelimit import CREDIT_EXHAUSTED, SPEND_LIMIT
from nightmill_worker.simulator.replies import ERROR_MESSAGES, error_kind
from nightmill_worker.simulator.request import MAX_BODY_BYTES, ContractError, Prompt, invalid

ECHO_CHARS = 1000
STATUS_OF_CODE = {
    "enforced_spend_limit_reached": 429,
    "contract_spend_limit_reached": 429,
    "ramp_limit_exceeded": 429,
    "organization_on_hold": 403,
}
CODE_WAIT_S = {"ramp_limit_exceeded": "1"}
"""Error code -> its retry-after, seconds."""
TOO_LARGE = "Request exceeds the maximum allowed number of bytes."


def check_headers(config: SimulatorConfig, request: web.BaseRequest) -> None:
    """Check credential, API version and declared size; raises `ContractError` (401, 400, 413)."""
    _check_key(config.auth, request)
    if not request.headers.get("anthropic-version"):
        raise invalid("anthropic-version: header is required")
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise too_large()


def _check_key(wanted: str | None, request: web.BaseRequest) -> None:
    given, name = request.headers.get("x-api-key"), "x-api-key"
    if given is None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            given, name = token.strip(), "bearer token"
    if not given:
        raise ContractError(401, "authentication_error", "x-api-key header is required")
    if wanted is not None and not hmac.compare_digest(given.encode(), wanted.encode()):
        raise ContractError(401, "authentication_error", f"invalid {name}")


async def read_body(request: web.BaseRequest) -> bytes:
    """Read the body; raises `ContractError` 413 above 32 MB, however it was sent."""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise too_large() from error


def too_large() -> ContractError:
    """Make the error for a body above 32 MB."""
    return ContractError(413, "request_too_large", TOO_LARGE)


def check_account(config: SimulatorConfig) -> None:
    """Refuse every call while the account is down or stopped; raises `ContractError`."""
    if config.down is not None:
        message = ERROR_MESSAGES.get(config.down, "Service unavailable")
        raise ContractError(config.down, error_kind(config.down), message)
    if config.credit_exhausted:
        raise invalid(CREDIT_EXHAUSTED)
    if config.spend_limit:
        raise ContractError(429, config.rate_limit_type, SPEND_LIMIT)
    if config.error_code is not None:
        _check_code(config.error_code)


def _is_of(prompt: Prompt, profile: str) -> bool:
    return prompt.request.user_profile_id == profile


def _check_code(code: str) -> None:
    """Answer with an error code of the API; an unknown one comes with an invalid request."""
    status = STATUS_OF_CODE.get(code, 400)
    raise ContractError(status, error_kind(status), "This request was refused.", code)


def check_prompt(config: SimulatorConfig, prompt: Prompt) -> None:
    """Refuse what concerns one model or one prompt; raises `ContractError`."""
    if config.deny_model is not None and prompt.request.model == config.deny_model:
        message = f"Your API key may not use the model {config.deny_model}."
        raise ContractError(403, error_kind(403), message)
    if config.spent_profile is not None and _is_of(prompt, config.spent_profile):
        _check_code("linked_organization_spend_limit_reached")
    if config.echo is not None and prompt.has(config.echo):
        raise invalid(f"messages: this prompt is not accepted: {prompt.text[:ECHO_CHARS]}")
