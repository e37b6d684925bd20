"""The settings of the simulated endpoint: one frozen record, checked when it is made."""

from typing import Annotated

import msgspec

from nightmill.records.bounds import MAX_INT

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_INT)]
Status = Annotated[int, msgspec.Meta(ge=400, le=599)]
MINUTE_S = 60.0


class ConfigError(ValueError):
    """A setting of the simulator is wrong; the message names the field."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A share of the admitted calls that is answered with an error status."""

    status: Status
    """HTTP status, 400 to 599."""
    share: Share
    """Share of the admitted calls, 0 to 1."""


class Stop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A share of the prompts whose answers stop with one reason; see simulator.stops."""

    reason: Annotated[str, msgspec.Meta(min_length=1)]
    """`max_tokens`, `pause_turn`, `refusal`, or any other name."""
    share: Share
    """Share of the prompts, 0 to 1."""


class SimulatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The endpoint's latency, limits and faults.

    A limit of None is no limit. Shares are 0 to 1. The shares of the faults are of admitted calls,
    and their sum is 1 at most.
    """

    latency_s: Seconds = 0.0
    """Mean duration of a call."""
    jitter: Share = 0.0
    """Largest deviation from the mean duration, as a share of it."""
    output_tokens: Count = 120
    """Mean output tokens of an answer."""
    schema: str | None = None
    """JSON Schema that texts fit; None: that of the request, and prose where it has none."""
    invalid: Share = 0.0
    """Share of the answers to a schema that do not fit it."""
    rpm: Count | None = None
    """Requests a minute, refilled continuously."""
    itpm: Count | None = None
    """Input tokens a minute, refilled continuously."""
    otpm: Count | None = None
    """Output tokens a minute, refilled continuously."""
    fast_itpm: Count | None = None
    """Input tokens a minute of calls in fast mode, which have limits of their own."""
    fast_otpm: Count | None = None
    """Output tokens a minute of calls in fast mode."""
    burst: Count | None = None
    """Requests that the request bucket holds; None: those of a minute. The token buckets hold the
    same share of a minute's tokens."""
    cap: Count | None = None
    """Calls in flight at most."""
    other_tenant: Share = 0.0
    """Share of every refill that another user of the same key takes."""
    otpm_reserve: bool = False
    """Charge max_tokens when a call is admitted and refund the rest when it ends."""
    headers: bool = True
    """Send the rate-limit headers."""
    retry_after: bool = True
    """Send retry-after with a 429."""
    name_dimension: bool = True
    """Name the limit that refused in the message of a 429."""
    rate_limit_type: str = "rate_limit_error"
    """Error type of a 429."""
    faults: tuple[Fault, ...] = ()
    stops: tuple[Stop, ...] = ()
    stall: Share = 0.0
    """Share of calls that pause for `stall_s` before the answer goes on."""
    stall_s: Seconds = 600.0
    truncate: Share = 0.0
    """Share of answers whose connection closes after half of the body."""
    sse_error: Share = 0.0
    """Share of streams that end with an error event."""
    drop: Share = 0.0
    """Share of calls whose connection closes without an answer."""
    wrong_type: Share = 0.0
    """Share of 200s whose body is an HTML page."""
    auth: str | None = None
    """The only key that is accepted; None: any key."""
    credit_exhausted: bool = False
    """Answer every call 400: the credit balance is too low."""
    spend_limit: bool = False
    """Answer every call 429: the spend limit is reached."""
    error_code: str | None = None
    """Answer every call with this `error.details.error_code`."""
    spent_profile: str | None = None
    """Answer calls of this `user_profile_id` as over their linked organization's spend limit."""
    block: str | None = None
    """Answer prompts with this text as a firewall does: 403 and an HTML page."""
    echo: str | None = None
    """Answer prompts with this text 400, and repeat the prompt in the error's message."""
    deny_model: str | None = None
    """Answer calls of this model 403: the credential may not use it."""
    down: Status | None = None
    """Answer every call with this status."""
    should_retry: bool | None = None
    """Send x-should-retry with every error: true or false. None: do not send it."""
    seed: int = 0
    """The same seed gives the same answers and the same faults."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other; raises `ConfigError`."""
        shares = (self.stall, self.truncate, self.sse_error, self.drop, self.wrong_type)
        total = sum(fault.share for fault in self.faults) + sum(shares)
        if total > 1 + 1e-9:
            names = "faults, stall, truncate, sse_error, drop, wrong_type"
            raise ConfigError(f"{names}: shares add up to {total:g}, at most 1 is possible")
        total = sum(stop.share for stop in self.stops)
        if total > 1 + 1e-9:
            raise ConfigError(f"stops: shares add up to {total:g}, at most 1 is possible")
        if self.burst is not None and self.rpm is None:
            raise ConfigError("burst: needs rpm, whose bucket it sizes")

    @property
    def fast(self) -> "SimulatorConfig":
        """The limits of calls in fast mode: only those of their tokens."""
        tokens = {"itpm": self.fast_itpm, "otpm": self.fast_otpm}
        return msgspec.structs.replace(self, rpm=None, burst=None, cap=None, **tokens)

    @property
    def burst_share(self) -> float:
        """The capacity of every bucket, as a share of a minute's refill."""
        return 1.0 if self.burst is None or self.rpm is None else self.burst / self.rpm


def make_config(fields: dict[str, object]) -> SimulatorConfig:
    """Build a checked config from plain values; raises `ConfigError` naming the field."""
    try:
        return msgspec.convert(fields, SimulatorConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(_named(str(error))) from error


def change_config(config: SimulatorConfig, changes: dict[str, object]) -> SimulatorConfig:
    """Return `config` with `changes` applied and checked; raises `ConfigError`."""
    fields = msgspec.to_builtins(config)
    return make_config(fields | changes)


def parse_fault(text: str) -> Fault:
    """Read `529:0.05`, which means 5 % of calls are answered 529; raises `ConfigError`."""
    status, _, share = text.partition(":")
    try:
        fields = {"status": int(status), "share": float(share)}
        return msgspec.convert(fields, Fault)
    except ValueError as error:
        raise ConfigError(
            f"fail: {text!r} is not STATUS:SHARE, such as 529:0.05 (400 to 599, 0 to 1)"
        ) from error


def parse_stop(text: str) -> Stop:
    """Read `refusal:0.02`, which means that 2 % of prompts are refused; raises `ConfigError`."""
    reason, _, share = text.rpartition(":")
    try:
        return msgspec.convert({"reason": reason, "share": float(share)}, Stop)
    except ValueError as error:
        raise ConfigError(
            f"stop: {text!r} is not REASON:SHARE, such as max_tokens:0.1 (0 to 1)"
        ) from error


def parse_stall(text: str) -> tuple[float, float | None]:
    """Read `0.01` or `0.01:30` as (share, seconds or None); raises `ConfigError`."""
    share, colon, seconds = text.partition(":")
    try:
        return float(share), float(seconds) if colon else None
    except ValueError as error:
        raise ConfigError(
            f"stall: {text!r} is not SHARE or SHARE:SECONDS, such as 0.01:30"
        ) from error


def _named(text: str) -> str:
    """Turn msgspec's "what - at `$.field`" into "field: what"."""
    what, _, where = text.partition(" - at ")
    if "unknown field `" in what:
        return f"{what.split('`')[1]}: no such setting"
    field = where.strip("`").removeprefix("$").removeprefix(".")
    return f"{field}: {what}" if field else what
