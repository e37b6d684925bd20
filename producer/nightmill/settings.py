"""The settings: one frozen object, read from NIGHTMILL_* variables and from options."""

from __future__ import annotations

import base64
import os
import re
import reprlib
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
MOST: Final = 10**12
"""The largest number that a setting may have. Scripts and stores can hold it exactly."""
_BETWEEN_ROOTS: Final = re.compile(r":(?!//)")
"""A colon that is not part of "://". A URL with a port therefore needs the JSON list."""
_short: Final = reprlib.Repr()
_short.maxstring = _short.maxother = 200


class Settings(BaseSettings):
    """Every setting of client, commands and workers; passed as an argument, never global.

    `description` says what a setting means; its unit ends its name (`_s` seconds, `_bytes` bytes).
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore"
    )

    redis_url: str | None = Field(
        None, repr=False, description="Redis URL. None: the embedded Valkey of DATA_DIR"
    )
    store_url: str | None = Field(
        None,
        repr=False,
        description="Results store, sqlite:// or postgresql://. None: results.db in DATA_DIR",
    )
    data_dir: Path = Field(
        Path(".nightmill"), description="Folder of the embedded Valkey, results.db and the spool"
    )

    base_url: str = Field(
        "https://api.anthropic.com",
        pattern=r"^https?://",
        description="Endpoint that is called, with or without /v1",
    )
    api_key: SecretStr | None = Field(
        None, description="Credential, sent as x-api-key. None: not sent"
    )
    auth_token: SecretStr | None = Field(
        None, description="Credential, sent as Authorization: Bearer. None: not sent"
    )
    anthropic_version: str = Field(
        "2023-06-01", description="Value of the anthropic-version header"
    )

    model: str = Field(
        "claude-opus-4-6", min_length=1, description="Model of requests that name none"
    )
    max_tokens: int = Field(
        1024, ge=1, le=MOST, description="max_tokens of requests that name none, output tokens"
    )

    rpm: int | None = Field(
        None,
        ge=1,
        le=MOST,
        description="Requests per minute of the whole fleet at most. None: no cap",
    )
    itpm: int | None = Field(
        None,
        ge=1,
        le=MOST,
        description="Input tokens per minute of the whole fleet at most. None: no cap",
    )
    otpm: int | None = Field(
        None,
        ge=1,
        le=MOST,
        description="Output tokens per minute of the whole fleet at most. None: no cap",
    )
    max_in_flight: int = Field(
        1000, ge=1, le=20_000, description="Calls in flight of one worker process at most"
    )
    fleet_max_in_flight: int | None = Field(
        None, ge=1, le=MOST, description="Calls in flight of the whole fleet at most. None: no cap"
    )

    canary: int = Field(
        20,
        ge=0,
        le=MOST,
        description="Identical failures in a row that pause a batch. 0: never pause",
    )
    polite: float = Field(
        0, ge=0, lt=1, description="Share of the endpoint's limits that is left to other users"
    )
    max_attempts: int = Field(
        5, ge=1, le=100, description="Counted attempts after which a job fails"
    )
    job_timeout_s: float = Field(
        600, gt=0, le=86_400, description="Longest time for a whole call, seconds"
    )
    connect_timeout_s: float = Field(
        10, gt=0, le=600, description="Longest time to connect to the endpoint, seconds"
    )
    read_timeout_s: float = Field(
        300, gt=0, le=86_400, description="Longest time without a byte of the answer, seconds"
    )
    lease_s: float = Field(
        30, ge=1, le=3600, description="Time after which a claim that is not renewed ends, seconds"
    )
    grace_s: float = Field(
        30, ge=0, le=3600, description="Time that calls have to finish at shutdown, seconds"
    )
    max_payload_bytes: int = Field(
        1 << 20, ge=1024, le=32 << 20, description="Size of one job in Redis at most"
    )
    max_response_bytes: int = Field(
        32 << 20,
        ge=1 << 16,
        le=1 << 30,
        description="Size of one answer at most, compressed and decompressed",
    )
    max_event_bytes: int = Field(
        8 << 20,
        ge=1 << 16,
        le=1 << 30,
        description="Size of one event of a streamed answer at most",
    )
    max_events: int = Field(
        1_000_000, ge=1000, le=MOST, description="Events of one streamed answer at most"
    )
    max_blocks: int = Field(
        10_000, ge=100, le=MOST, description="Content blocks of one streamed answer at most"
    )
    window: int = Field(
        50_000, ge=0, le=MOST, description="Jobs of one batch in Redis at once at most. 0: no limit"
    )
    keep_params: bool = Field(True, description="Store each request in its job's row")

    attach_roots: str | None = Field(
        None,
        description="Folders and URLs that attachments may be read from, as a:b or a JSON list. "
        "None: `run` takes the source's folder, other workers read no attachments",
    )
    attach_memory_bytes: int = Field(
        512 << 20,
        ge=64 << 20,
        le=MOST,
        description="Attachments in memory, of one worker process, at most",
    )

    webhook_secret: SecretStr | None = Field(
        None, description="Secret that signs webhooks, whsec_ and base64. None: none are sent"
    )
    webhook_allow_private: bool = Field(False, description="Send webhooks to private addresses too")

    only_batch: str | None = Field(
        None, description="The only batch whose jobs a worker claims. None: jobs of all batches"
    )
    rehearsal: bool = Field(
        False, description="The endpoint is a simulator: rows are marked as rehearsed"
    )

    log_format: Literal["json", "console"] = Field(
        "console", description="Format of the worker's log"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that the worker logs"
    )

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
        """Return the place of the results store: STORE_URL, else the path of results.db."""
        return self.store_url or self.data_dir / "results.db"

    @property
    def has_credential(self) -> bool:
        """Whether there is a credential to send with a call."""
        return bool(self.api_key or self.auth_token)

    def to_env(self) -> dict[str, str]:
        """Return the variables that make a child process load the same settings."""
        env = {}
        for name in sorted(self.model_fields_set):
            value = getattr(self, name)
            if value is not None:
                plain = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
                env[PREFIX + name.upper()] = plain
        return env


def split_roots(given: str | None) -> tuple[str, ...]:
    """Return the paths and URLs of ATTACH_ROOTS, which are separated by colons or a JSON list.

    Raises ValueError that says what is allowed.
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
    """Return the key of a WEBHOOK_SECRET: whsec_ and base64, as Standard Webhooks writes it.

    Raises ValueError that says what is allowed.
    """
    try:
        key = base64.b64decode(secret.removeprefix(WEBHOOK_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(WEBHOOK_PREFIX) or len(key) not in WEBHOOK_KEY_BYTES:
        raise ValueError("not whsec_ and the base64 of 24 to 64 random bytes")
    return key


def load_settings(**overrides: object) -> Settings:
    """Read the environment, then apply `overrides`; an override that is None was not given.

    ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY and ANTHROPIC_AUTH_TOKEN are used where the NIGHTMILL_*
    variables are not set. The two credentials are taken together from one level, so that a call
    never mixes them. Raises SettingsError naming the variable, what was given and what is allowed.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**{**_fallbacks(os.environ), **given})  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    """Return the first error of pydantic as one line, without the value of a secret."""
    first = error.errors()[0]
    problem = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return problem
    name = str(first["loc"][0])
    secret = name in SECRETS or "@" in str(first["input"])  # a URL may have a password
    given = "" if secret else f" (given: {_short.repr(first['input'])})"
    return f"{PREFIX}{name.upper()}: {problem}{given}"


def _fallbacks(env: Mapping[str, str]) -> dict[str, str]:
    """Return field -> value of the ANTHROPIC_* variables whose NIGHTMILL_* ones are not set."""
    names = [] if env.get(PREFIX + "BASE_URL") else ["base_url"]
    if not any(env.get(PREFIX + name.upper()) for name in CREDENTIALS):
        names += CREDENTIALS
    return {name: env[key] for name in names if env.get(key := "ANTHROPIC_" + name.upper())}
