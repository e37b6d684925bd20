"""What a client learns of the limits: rate-limit headers and the message of a 429."""

import math
from datetime import UTC, datetime
from functools import lru_cache

from multidict import istr

from nightmill_worker.simulator.bucket import EPSILON, TokenBucket
from nightmill_worker.simulator.config import SimulatorConfig
from nightmill_worker.simulator.limiter import Limiter, Refusal

# aiohttp looks these up for every response; with `istr` it need not fold their case each time.
_UNITS = ("requests", "tokens", "input-tokens", "output-tokens")
_PARTS = ("limit", "remaining", "reset")
_Names = dict[str, tuple[istr, ...]]


def _named(prefix: str) -> _Names:
    return {unit: tuple(istr(f"{prefix}-{unit}-{part}") for part in _PARTS) for unit in _UNITS}


_STANDARD, _FAST = _named("anthropic-ratelimit"), _named("anthropic-fast")
TOKEN_ROUNDING = 1000
# A bucket that another tenant empties never refills, but its reset header needs a date.
MAX_RESET_S = 86_400.0
SPEND_LIMIT = (
    "You have reached your specified API usage limits (spend limit). "
    "You will regain access when the limit is raised or the month ends."
)
CREDIT_EXHAUSTED = (
    "Your credit balance is too low to access the Anthropic API. "
    "Please go to Plans & Billing to upgrade or purchase credits."
)


def ratelimit_headers(
    config: SimulatorConfig, limiter: Limiter, now: float, wall: float, *, fast: bool = False
) -> dict[str, str]:
    """Return the `anthropic-ratelimit-*` headers; `now` is monotonic, `wall` is Unix time.

    With `fast` they are the `anthropic-fast-*` headers.

    Token counts are rounded to 1,000. `reset` is when a bucket is full again. `tokens` repeats
    input or output tokens, whichever has the smaller share left.
    """
    headers: dict[str, str] = {}
    names = _FAST if fast else _STANDARD
    bucket = limiter.buckets.get("requests")
    if bucket is not None and config.rpm is not None:
        left = max(0, math.floor(bucket.remaining(now) + EPSILON))
        _put(headers, names["requests"], config.rpm, left, _reset(bucket, now, wall))
    scarcest = math.inf
    for name, limit, bucket in (
        ("input-tokens", config.itpm, limiter.buckets.get("input_tokens")),
        ("output-tokens", config.otpm, limiter.buckets.get("output_tokens")),
    ):
        if bucket is None or limit is None:
            continue
        level = max(0.0, bucket.remaining(now))
        rounded = round(level / TOKEN_ROUNDING) * TOKEN_ROUNDING
        reset = _reset(bucket, now, wall)
        _put(headers, names[name], limit, rounded, reset)
        if not fast and level / bucket.capacity < scarcest:
            scarcest = level / bucket.capacity
            _put(headers, names["tokens"], limit, rounded, reset)
    return headers


def _put(
    headers: dict[str, str], names: tuple[istr, ...], limit: int, remaining: int, reset: str
) -> None:
    limit_name, remaining_name, reset_name = names
    headers[limit_name] = str(limit)
    headers[remaining_name] = str(remaining)
    headers[reset_name] = reset


def _reset(bucket: TokenBucket, now: float, wall: float) -> str:
    wait = min(bucket.seconds_until_full(now), MAX_RESET_S)
    return _rfc3339(math.ceil(wall + wait))


@lru_cache(maxsize=256)
def _rfc3339(second: int) -> str:
    """Format a Unix second; cached, as thousands of responses share one second."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def retry_after(refusal: Refusal) -> str:
    """Return the `retry-after` value: whole seconds, rounded up, at least 1."""
    return str(max(1, math.ceil(min(refusal.retry_after_s, MAX_RESET_S) - EPSILON)))


def refusal_message(config: SimulatorConfig, refusal: Refusal) -> str:
    """Name the limit that refused; with `name_dimension` off, only say that one did."""
    if not config.name_dimension:
        return "This request would exceed your account's rate limit. Please try again later."
    if refusal.dimension == "concurrency":
        return (
            "Number of concurrent connections has exceeded your rate limit of "
            f"{config.cap} concurrent connections. Please try again later."
        )
    limit = {"requests": config.rpm, "input_tokens": config.itpm, "output_tokens": config.otpm}
    unit = refusal.dimension.replace("_", " ")
    return (
        "This request would exceed your organization's rate limit of "
        f"{limit[refusal.dimension]:,} {unit} per minute. Please try again later."
    )
