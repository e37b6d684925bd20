"""What the simulated endpoint is like: one frozen record, checked at the edges only."""

from typing import Annotated

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Status = Annotated[int, msgspec.Meta(ge=400, le=599)]
MINUTE_S = 60.0


class ConfigError(ValueError):
    """A setting of the simulator is wrong; the message names the field."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A share (0 to 1) of admitted calls answered with an error status (400 to 599)."""

    status: Status
    share: Share


class SimulatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The endpoint's pace, limits and faults; None means "without".

    `rpm`, `itpm` and `otpm` are per minute, refilled continuously. `burst` is how many requests the
    request bucket holds (default: a minute's worth); token buckets hold the same share of theirs.
    `other_tenant` is the share of every refill that someone else on the same key uses up.
    Shares are of admitted calls; together they may not exceed 1.
    """

    latency_s: Seconds = 0.0
    jitter: Share = 0.0
    output_tokens: Count = 120
    rpm: Count | None = None
    itpm: Count | None = None
    otpm: Count | None = None
    burst: Count | None = None
    cap: Count | None = None
    other_tenant: Share = 0.0
    otpm_reserve: bool = False
    headers: bool = True
    retry_after: bool = True
    name_dimension: bool = True
    rate_limit_type: str = "rate_limit_error"
    faults: tuple[Fault, ...] = ()
    stall: Share = 0.0
    stall_s: Seconds = 600.0
    truncate: Share = 0.0
    sse_error: Share = 0.0
    drop: Share = 0.0
    wrong_type: Share = 0.0
    auth: str | None = None
    credit_exhausted: bool = False
    spend_limit: bool = False
    down: Status | None = None
    should_retry: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other; raises `ConfigError`."""
        shares = (self.stall, self.truncate, self.sse_error, self.drop, self.wrong_type)
        total = sum(fault.share for fault in self.faults) + sum(shares)
        if total > 1 + 1e-9:
            names = "faults, stall, truncate, sse_error, drop, wrong_type"
            raise ConfigError(f"{names}: shares add up to {total:g}, at most 1 is possible")
        if self.burst is not None and self.rpm is None:
            raise ConfigError("burst: needs rpm, whose bucket it sizes")

    @property
    def burst_share(self) -> float:
        """How much of a minute's worth every bucket holds."""
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
    """Read `529:0.05` as "5 % of calls are answered 529"; raises `ConfigError`."""
    status, _, share = text.partition(":")
    try:
        fields = {"status": int(status), "share": float(share)}
        return msgspec.convert(fields, Fault)
    except ValueError as error:
        raise ConfigError(
            f"fail: {text!r} is not STATUS:SHARE, such as 529:0.05 (400 to 599, 0 to 1)"
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
