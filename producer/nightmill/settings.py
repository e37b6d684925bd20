"""One frozen settings object; every field has a unit and a range. Prefix NIGHTMILL_."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self

import msgspec
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nightmill.errors import SettingsError

PREFIX: Final = "NIGHTMILL_"
CREDENTIALS: Final = ("api_key", "auth_token")
SECRETS: Final = (*CREDENTIALS, "webhook_secret")
WEBHOOK_PREFIX: Final = "whsec_"
WEBHOOK_KEY_BYTES: Final = range(24, 65)
_BETWEEN_ROOTS: Final = re.compile(r":(?!//)")
"""A colon, but not that of a URL's scheme; a URL with a port needs the JSON list."""


class Settings(BaseSettings):
    """Where things are, how fast to go, how long to wait. Passed explicitly, never global."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore"
    )

    redis_url: str | None = Field(None, description="Redis URL; none starts the embedded Valkey")
    store_url: str | None = Field(None, description="Results store URL; none is DATA_DIR's SQLite")
    data_dir: Path = Field(Path(".nightmill"), description="Embedded server, results.db and spool")

    base_url: str = Field(
        "https://api.anthropic.com", pattern=r"^https?://", description="With or without /v1"
    )
    api_key: SecretStr | None = Field(None, description="Sent as x-api-key")
    auth_token: SecretStr | None = Field(None, description="Sent as Authorization: Bearer")
    anthropic_version: str = Field("2023-06-01", description="anthropic-version header")

    model: str = Field("claude-opus-4-6", min_length=1, description="For requests that name none")
    max_tokens: int = Field(1024, ge=1, description="For requests that name none, tokens")

    rpm: int | None = Field(None, ge=1, description="Cap, requests a minute over the fleet")
    itpm: int | None = Field(None, ge=1, description="Cap, input tokens a minute over the fleet")
    otpm: int | None = Field(None, ge=1, description="Cap, output tokens a minute over the fleet")
    max_in_flight: int = Field(1000, ge=1, le=20_000, description="Calls in flight, one process")
    fleet_max_in_flight: int | None = Field(None, ge=1, description="Calls in flight, the fleet")

    canary: int = Field(20, ge=0, description="Like failures in a row pause a batch; 0 = never")
    polite: float = Field(0, ge=0, lt=1, description="Share of the limits left to other users")
    max_attempts: int = Field(5, ge=1, le=100, description="Counted attempts before a job fails")
    job_timeout_s: float = Field(600, gt=0, le=86_400, description="Whole call, seconds")
    connect_timeout_s: float = Field(10, gt=0, le=600, description="Connecting, seconds")
    read_timeout_s: float = Field(300, gt=0, le=86_400, description="Silence in a call, seconds")
    lease_s: float = Field(30, ge=1, le=3600, description="A claim nobody renews ends after, s")
    grace_s: float = Field(30, ge=0, le=3600, description="Calls may finish at shutdown for, s")
    max_payload_bytes: int = Field(1 << 20, ge=1024, le=32 << 20, description="One job in Redis")
    window: int = Field(50_000, ge=0, description="Jobs of one batch in Redis at once; 0 = all")
    keep_params: bool = Field(True, description="Store each request beside its result")

    attach_roots: str | None = Field(None, description="Where attachments may be read: a:b or JSON")
    attach_memory_bytes: int = Field(
        512 << 20, ge=64 << 20, description="Attachments in calls, one process"
    )

    webhook_secret: SecretStr | None = Field(None, description="whsec_...: signs webhooks")
    webhook_allow_private: bool = Field(False, description="Webhooks may go to private addresses")

    only_batch: str | None = Field(None, description="A worker claims no other jobs than its")
    rehearsal: bool = Field(False, description="Answers are a simulator's, never taken for real")

    log_format: Literal["json", "console"] = Field("console", description="Worker logs")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="From")

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.api_key and self.auth_token:
            msg = "API_KEY and AUTH_TOKEN are both set, and a call carries one: unset either"
            raise ValueError(msg)
        return self

    @field_validator("attach_roots")
    @classmethod
    def _readable_roots(cls, given: str | None) -> str | None:
        split_roots(given)
        return given

    @field_validator("webhook_secret")
    @classmethod
    def _signing_secret(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None:
            signing_key(given.get_secret_value())
        return given

    @property
    def store_at(self) -> str | Path:
        """Where results are: STORE_URL, else results.db in DATA_DIR."""
        return self.store_url or self.data_dir / "results.db"

    @property
    def has_credential(self) -> bool:
        """Whether a call could be authenticated at all."""
        return bool(self.api_key or self.auth_token)

    def to_env(self) -> dict[str, str]:
        """Return what a child process needs in its environment to load these same settings."""
        env = {}
        for name in sorted(self.model_fields_set):
            value = getattr(self, name)
            if value is not None:
                plain = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
                env[PREFIX + name.upper()] = plain
        return env


def split_roots(given: str | None) -> tuple[str, ...]:
    """Return the paths and URLs of ATTACH_ROOTS, which stand like those of PATH or as a JSON list.

    Raises ValueError that says what it should be.
    """
    if not given:
        return ()
    if not given.startswith("["):
        return tuple(part for part in _BETWEEN_ROOTS.split(given) if part)
    try:
        return msgspec.json.decode(given, type=tuple[str, ...])
    except msgspec.MsgspecError:
        raise ValueError("not a JSON list of paths and URLs") from None


def signing_key(secret: str) -> bytes:
    """Return the key of a WEBHOOK_SECRET, as Standard Webhooks writes them: whsec_ and base64.

    Raises ValueError that says what it should be.
    """
    try:
        key = base64.b64decode(secret.removeprefix(WEBHOOK_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(WEBHOOK_PREFIX) or len(key) not in WEBHOOK_KEY_BYTES:
        raise ValueError("not whsec_ and the base64 of 24 to 64 random bytes")
    return key


def load_settings(**overrides: object) -> Settings:
    """Read the environment, then apply `overrides` (None means: not given on the command line).

    ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY and ANTHROPIC_AUTH_TOKEN stand in where the NIGHTMILL_*
    ones are silent; the two credentials fall back together, so that levels never mix.
    Raises SettingsError naming the variable, what was given and what is allowed.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**{**_fallbacks(os.environ), **given})  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    """Turn pydantic's first complaint into one line; a credential's value is never shown."""
    first = error.errors()[0]
    problem = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return problem
    name = str(first["loc"][0])
    given = "" if name in SECRETS else f" (given: {first['input']!r})"
    return f"{PREFIX}{name.upper()}: {problem}{given}"


def _fallbacks(env: Mapping[str, str]) -> dict[str, str]:
    """Return what the ANTHROPIC_* variables provide where NIGHTMILL_* has nothing to say."""
    names = [] if env.get(PREFIX + "BASE_URL") else ["base_url"]
    if not any(env.get(PREFIX + name.upper()) for name in CREDENTIALS):
        names += CREDENTIALS
    return {name: env[key] for name in names if env.get(key := "ANTHROPIC_" + name.upper())}
