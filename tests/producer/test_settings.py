"""Settings: their sources, which source wins, and the errors of wrong values."""

from __future__ import annotations

import os

import pytest

from nightmill.errors import SettingsError
from nightmill.settings import load_settings


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of the developer's own shell."""
    for name in [name for name in os.environ if name.startswith(("NIGHTMILL_", "ANTHROPIC_"))]:
        monkeypatch.delenv(name)


def test_the_sdks_variables_are_used_where_ours_are_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A user of the SDK has set ANTHROPIC_API_KEY already."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "theirs")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    settings = load_settings()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "theirs"
    assert settings.base_url == "http://127.0.0.1:1"


def test_the_two_levels_of_credentials_never_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """With our token and the SDK's key set, only our token is used."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "theirs")
    monkeypatch.setenv("NIGHTMILL_AUTH_TOKEN", "ours")
    settings = load_settings()
    assert settings.api_key is None
    assert settings.auth_token is not None


def test_both_credentials_at_one_level_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call carries one credential, and the program does not guess which."""
    monkeypatch.setenv("NIGHTMILL_API_KEY", "key")
    monkeypatch.setenv("NIGHTMILL_AUTH_TOKEN", "token")
    with pytest.raises(SettingsError, match="unset either") as caught:
        load_settings()
    assert "token" not in str(caught.value).replace("AUTH_TOKEN", "")


def test_an_option_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option is typed for this command; a variable may have been exported long ago."""
    monkeypatch.setenv("NIGHTMILL_RPM", "60")
    assert load_settings(rpm=600).rpm == 600
    assert load_settings(rpm=None).rpm == 60


@pytest.mark.parametrize(
    ("name", "value"),
    [("RPM", "zero"), ("LEASE_S", "0"), ("BASE_URL", "api.example"), ("MAX_IN_FLIGHT", "-1")],
)
def test_the_error_of_a_wrong_value_names_the_variable_and_the_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """The operator has to correct that variable."""
    monkeypatch.setenv(f"NIGHTMILL_{name}", value)
    with pytest.raises(SettingsError, match=rf"NIGHTMILL_{name}: .*given: '{value}'"):
        load_settings()


def test_secrets_are_never_shown() -> None:
    """Settings are printed in logs and tracebacks."""
    settings = load_settings(
        api_key="very-secret",
        redis_url="redis://:very-secret@h",
        store_url="postgresql://u:very-secret@h/db",
    )
    assert "very-secret" not in f"{settings!r} {settings}"
    with pytest.raises(SettingsError, match="NIGHTMILL_BASE_URL") as caught:
        load_settings(base_url="ftp://u:very-secret@h")
    assert "very-secret" not in str(caught.value)


def test_a_child_process_loads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers get their settings through the environment, never on a command line."""
    settings = load_settings(rpm=5, api_key="k", model="m")
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
