"""The settings: one frozen object, made of what setting_sources.py finds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

import msgspec
from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from nightmill.errors import SettingsError
from nightmill.setting_sources import (
    PREFIX,
    Given,
    explained,
    given_settings,
    short,
    unknown_variables,
    variables,
)
from nightmill.setting_values import (
    CHECKS,
    endpoint_of,
    mistyped,
    parse_headers,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECRETS: Final = ("api_key", "auth_token", "webhook_secret", "headers")
URLS: Final = ("redis_url", "store_url")
"""Settings that may hold a password."""
MOST: Final = 10**12
"""The largest number that a setting may have. Scripts and stores can hold it exactly."""


def _a_minute(what: str) -> Any:  # noqa: ANN401 - pydantic's own type of a field
    """Return the field of a cap on what the whole fleet uses a minute."""
    text = f"{what} per minute of the whole fleet at most. None: no cap"
    return Field(None, ge=1, le=MOST, description=text)


class Settings(BaseSettings):
    """Every setting of client, commands and workers; passed as an argument, never global.

    `description` says what a setting means; its unit ends its name (`_s` seconds, `_bytes` bytes).
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, _: object, init_settings: PydanticBaseSettingsSource, **__: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only arguments: setting_sources.py reads the others, and says where each was."""
        return (init_settings,)

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
        description="Endpoint that is called, with or without /v1 or /v1/messages",
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
    preflight: bool = Field(True, description="Find what the endpoint refuses before enqueueing")
    headers: SecretStr | None = Field(
        None, description="More headers of each call, one `Name: value` a line or a JSON object"
    )

    model: str = Field(
        "claude-opus-4-6", min_length=1, description="Model of requests that name none"
    )
    max_tokens: int = Field(
        1024, ge=1, le=MOST, description="max_tokens of requests that name none, output tokens"
    )

    rpm: int | None = _a_minute("Requests")
    itpm: int | None = _a_minute("Input tokens")
    otpm: int | None = _a_minute("Output tokens")
    max_in_flight: int = Field(
        1000, ge=1, le=20_000, description="Calls in flight of one worker process at most"
    )
    fleet_max_in_flight: int | None = Field(
        None, ge=1, le=MOST, description="Calls in flight of the whole fleet at most. None: no cap"
    )

    limit_groups: str | None = Field(
        None,
        description="Models that share a limit, as GROUP=MODEL,MODEL-*;GROUP=... or a JSON object, "
        "beside the default groups. none: no groups",
    )
    prices: str | None = Field(
        None, description="TOML file of own prices and discounts. None: the public list prices"
    )

    canary: int = Field(
        20, ge=0, le=MOST, description="Identical failures in a row that pause a batch. 0: never"
    )
    polite: float = Field(
        0, ge=0, lt=1, description="Share of the endpoint's limits that is left to other users"
    )
    max_attempts: int = Field(
        5, ge=1, le=100, description="Counted attempts after which a job fails"
    )
    outage_s: float = Field(
        120,
        ge=0,
        le=86_400,
        description="Time from its first failure in which no job fails by attempts, seconds",
    )
    job_timeout_s: float = Field(
        600, gt=0, le=86_400, description="Longest time for a whole call, seconds"
    )
    connect_timeout_s: float = Field(
        10, gt=0, le=600, description="Longest time to find the endpoint and connect to it, seconds"
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
        1 << 20, ge=1024, le=32 << 20, description="Size of one job in Redis, unless by HTTP"
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
    max_wait_s: float = Field(
        540, ge=1, le=3600, description="Longest wait of a Message over HTTP, seconds"
    )
    batch_expires_s: float = Field(
        86_400, ge=1, le=30 * 86_400, description="Life of a batch made over HTTP, seconds"
    )
    max_queued: int = Field(
        1_000_000, ge=1, le=MOST, description="Jobs in Redis at which a gateway takes no new ones"
    )
    interactive_share: float = Field(
        0.2, ge=0, le=0.9, description="Share of a lane that is kept for POST /v1/messages"
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

    checks: str | None = Field(
        None,
        description="Functions that check outputs, as name=module:function, separated by commas. "
        "None: no batch may name one",
    )
    check_timeout_s: float = Field(
        30, gt=0, le=3600, description="Longest time for one check of an output, seconds"
    )

    webhook_secret: SecretStr | None = Field(
        None, description="Secret that signs webhooks, whsec_ and base64. None: none are sent"
    )
    webhook_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Where webhooks about the account go. None: nowhere",
    )
    webhook_allow_private: bool = Field(False, description="Send webhooks to private addresses too")

    only_batch: str | None = Field(
        None, description="The only batch whose jobs a worker claims. None: jobs of all batches"
    )
    rehearsal: bool = Field(
        False,
        description="A simulator answers: batches are NAME@rehearsal, and workers claim no others",
    )

    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Port of /metrics of `worker` and `run`. None: not served"
    )
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="Address that /metrics listens on"
    )
    history: bool = Field(True, description="Keep the history of the last day in Redis")

    log_format: Literal["json", "console"] = Field("console", description="Format of the log")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged"
    )

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        if self.api_key and self.auth_token:
            msg = "API_KEY and AUTH_TOKEN are both set, and a call carries one: unset either"
            raise ValueError(msg)
        return self

    @field_validator("attach_roots", "checks", "headers", "limit_groups", mode="before")
    @classmethod
    def _as_json(cls, given: object) -> object:
        """Take the lists and tables of a settings file."""
        return msgspec.json.encode(given).decode() if isinstance(given, list | dict) else given

    @field_validator("base_url", mode="before")
    @classmethod
    def _callable_url(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        endpoint_of(given)
        return given.strip()

    @field_validator(*CHECKS)
    @classmethod
    def _readable(cls, given: object, info: ValidationInfo) -> object:
        if given:
            plain = given.get_secret_value() if isinstance(given, SecretStr) else str(given)
            CHECKS[str(info.field_name)](plain)
        return given

    @property
    def endpoint(self) -> str:
        """Return the address of the endpoint, to which a call adds /v1/messages."""
        return endpoint_of(self.base_url)

    @property
    def extra_headers(self) -> dict[str, str]:
        """Return the headers that each call has beside nightmill's own; names in lower case."""
        return parse_headers(self.headers.get_secret_value()) if self.headers else {}

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


class Loaded(NamedTuple):
    """Settings, and what was given for each: the others have their default."""

    settings: Settings
    given: Mapping[str, Given]


def load_settings(**overrides: object) -> Settings:
    """Read the settings of this process; an override that is None was not given.

    setting_sources.py says where from, and which source wins. Raises SettingsError naming the
    source, what was given and what is allowed.
    """
    return load(**overrides).settings


def load(**overrides: object) -> Loaded:
    """Read the settings as `load_settings` does, and tell where each comes from."""
    chosen = {name: value for name, value in overrides.items() if value is not None}
    return _validated(given_settings(Settings.model_fields, chosen, os.environ))


def settings_from_parent() -> Settings:
    """Read the settings that `Settings.to_env` gave to this process, and no files."""
    return _validated(variables(Settings.model_fields, os.environ)).settings


def warnings() -> Iterator[str]:
    """Yield a line for each variable that looks like a setting and is none."""
    return unknown_variables(Settings.model_fields, os.environ)


def _validated(given: Mapping[str, Given]) -> Loaded:
    for name, each in given.items():
        kind = Settings.model_fields[name].annotation
        if each.typed and (problem := mistyped(name, kind, each.value)):
            shown = "" if name in SECRETS else f" (given: {short.repr(each.value)})"
            raise SettingsError(f"{each.source}: {problem}{shown}")
    try:
        settings = Settings(**{name: each.value for name, each in given.items()})  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(explained(error, given, (*SECRETS, *URLS))) from None
    return Loaded(settings, given)
