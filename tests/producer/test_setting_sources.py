"""Where settings come from, which source wins, and what is said of names that are no settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nightmill.errors import SettingsError
from nightmill.safety.redaction import Secrets
from nightmill.settings import load, load_settings, settings_from_parent, warnings

KEY = "sk-ant-api03-Zm9v-bar+Qx7_w-9AA"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Work in an empty folder, without the variables of the developer's own shell."""
    for name in [name for name in os.environ if name.startswith(("NIGHTMILL_", "ANTHROPIC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_order_of_the_sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Option, variable, .env, nightmill.toml, default: each wins over all that follow."""
    assert load().settings.rpm is None
    (folder / "nightmill.toml").write_text("rpm = 1\nitpm = 1\notpm = 1\ncanary = 1\n")
    (folder / ".env").write_text("NIGHTMILL_RPM=2\nNIGHTMILL_ITPM=2\nNIGHTMILL_OTPM=2\nOTHER=x\n")
    monkeypatch.setenv("NIGHTMILL_RPM", "3")
    monkeypatch.setenv("NIGHTMILL_ITPM", "3")
    settings, given = load(rpm=4)
    assert (settings.rpm, settings.itpm, settings.otpm, settings.canary) == (4, 3, 2, 1)
    assert [given[name].source for name in ("rpm", "itpm", "otpm", "canary")] == [
        "option",
        "NIGHTMILL_ITPM",
        ".env: NIGHTMILL_OTPM",
        "nightmill.toml: canary",
    ]


def test_a_settings_file_can_be_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service of systemd has no folder of its own."""
    (folder / "nightmill.toml").write_text("rpm = 1\n")
    (folder / "other.toml").write_text("rpm = 2\n")
    monkeypatch.setenv("NIGHTMILL_SETTINGS_FILE", "other.toml")
    assert load_settings().rpm == 2
    assert list(warnings()) == []
    monkeypatch.setenv("NIGHTMILL_SETTINGS_FILE", "none.toml")
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read: No such file"):
        load_settings()


def test_an_unknown_name_in_the_settings_file_is_refused(folder: Path) -> None:
    """A setting that is written wrong would do nothing, for a whole night."""
    (folder / "nightmill.toml").write_text("max_token = 5\n")
    with pytest.raises(SettingsError, match=r"toml: max_token: no such.*did you mean max_tokens"):
        load_settings()


def test_an_unknown_argument_is_refused() -> None:
    """`load_settings(rmp=60)` was a cap that nobody kept."""
    with pytest.raises(SettingsError, match=r"rmp: no such setting; did you mean rpm\?"):
        load_settings(rmp=60)


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        ('rpm = "fast"', "rpm: needs a whole number"),
        ("rpm = true", "rpm: needs a whole number"),
        ("lease_s = [1]", "lease_s: needs a number"),
        ('keep_params = "no"', "keep_params: needs true or false"),
        ("model = 5", "model: needs a text in quotes"),
        ("log_level = 5", "log_level: needs a text in quotes"),
        ("[redis_url]", "redis_url: needs a text in quotes"),
        ("rpm = 0", "rpm: .*greater than or equal to 1"),
        ('log_level = "loud"', "log_level: .*'debug'"),
    ],
)
def test_a_wrong_type_is_named_with_file_and_field(folder: Path, line: str, needed: str) -> None:
    """The person has to correct that line."""
    (folder / "nightmill.toml").write_text(line + "\n")
    with pytest.raises(SettingsError, match=rf"^nightmill\.toml: {needed}"):
        load_settings()


@pytest.mark.parametrize("content", [b"rpm = \n", b"\xff\xfe", b"rpm = 1\nrpm = 2\n"])
def test_a_file_that_is_not_toml_is_one_line(folder: Path, content: bytes) -> None:
    """Bad input gets no traceback."""
    (folder / "nightmill.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=r"^nightmill\.toml: "):
        load_settings()


def test_a_settings_file_may_have_lists_tables_and_a_mark_at_its_start(folder: Path) -> None:
    """Editors on Windows write a byte order mark."""
    text = '\ufeffattach_roots = ["/a:b"]\npolite = 0\n[headers]\nanthropic-beta = "x"\n'
    (folder / "nightmill.toml").write_text(text, encoding="utf-8")
    settings = load_settings()
    assert settings.attach_roots == '["/a:b"]'
    assert settings.extra_headers == {"anthropic-beta": "x"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_key", KEY),
        ("auth_token", KEY),
        ("webhook_secret", "whsec_" + "A" * 32),
        ("headers", "x-gateway: abc"),
        ("redis_url", "redis://:pw@h/0"),
        ("store_url", "postgresql://u:pw@h/d"),
    ],
)
def test_a_secret_can_come_from_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Docker and Kubernetes mount secrets as files."""
    (folder / "secret").write_text(value + "\n")
    variable = f"NIGHTMILL_{name.upper()}_FILE"
    monkeypatch.setenv(variable, "secret")
    settings, given = load()
    assert value in (plain := settings.to_env()[f"NIGHTMILL_{name.upper()}"])
    assert plain == plain.strip()
    assert given[name].source == variable
    assert list(warnings()) == []
    monkeypatch.delenv(variable)
    (folder / "nightmill.toml").write_text(f'{name}_file = "secret"\n')
    assert load().given[name].value == value


def test_a_file_of_a_secret_that_cannot_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is shown, the content is not."""
    monkeypatch.setenv("NIGHTMILL_API_KEY_FILE", "none")
    with pytest.raises(SettingsError, match="NIGHTMILL_API_KEY_FILE: cannot read none: No such"):
        load_settings()
    (folder / "none").write_bytes(b"\n")
    with pytest.raises(SettingsError, match="NIGHTMILL_API_KEY_FILE: none is empty"):
        load_settings()
    monkeypatch.setenv("NIGHTMILL_API_KEY", "k")
    with pytest.raises(SettingsError, match="both set: unset either"):
        load_settings()


def test_a_secret_may_come_from_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """`NIGHTMILL_API_KEY_FILE=<(pass show key)` is read once, and asked for more than once."""
    reads, writes = os.pipe()
    os.write(writes, KEY.encode())
    os.close(writes)
    monkeypatch.setenv("NIGHTMILL_API_KEY_FILE", f"/dev/fd/{reads}")
    try:
        for _ in range(2):
            assert load().given["api_key"].value == KEY
            assert KEY not in Secrets.of_environment().hidden(KEY)
    finally:
        os.close(reads)


def test_credentials_are_taken_together_from_one_source(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of the SDK in the shell is not for the gateway of the settings file."""
    (folder / "nightmill.toml").write_text('auth_token = "of-the-file"\n')
    monkeypatch.setenv("ANTHROPIC_API_KEY", "of-the-sdk")
    settings = load_settings()
    assert settings.api_key is None
    assert settings.auth_token is not None
    monkeypatch.setenv("NIGHTMILL_API_KEY", "of-the-shell")
    settings = load_settings()
    assert settings.api_key is not None
    assert settings.auth_token is None


def test_the_sdks_variables_may_stand_in_dotenv(folder: Path) -> None:
    """`.env` is where people keep them."""
    (folder / ".env").write_text('export ANTHROPIC_API_KEY="theirs"\n')
    assert load().given["api_key"].source == ".env: ANTHROPIC_API_KEY"


@pytest.mark.parametrize("kind", ["folder", "bytes"])
def test_a_dotenv_of_another_kind_is_left_alone(folder: Path, kind: str) -> None:
    """A virtual environment may be named `.env`."""
    if kind == "folder":
        (folder / ".env").mkdir()
    else:
        (folder / ".env").write_bytes(b"\xff\0NIGHTMILL_RPM=1")
    assert load_settings().rpm is None


def test_a_child_process_reads_no_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is changed during a run must not give the next worker other settings."""
    (folder / "nightmill.toml").write_text("rpm = 1\ncanary = 5\n")
    parent = load_settings()
    (folder / "nightmill.toml").write_text("rpm = 2\nlease_s = 5\n")
    for name, value in parent.to_env().items():
        monkeypatch.setenv(name, value)
    assert settings_from_parent() == parent


def test_an_unknown_variable_is_warned_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`NIGHTMILL_RMP=60` was a cap that nobody kept. Kubernetes sets variables for services."""
    monkeypatch.setenv("NIGHTMILL_RMP", "60")
    monkeypatch.setenv("NIGHTMILL_REDIS_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("NIGHTMILL_REDIS_PORT_6379_TCP_ADDR", "10.0.0.1")
    (folder / ".env").write_text("NIGHTMILL_MODLE=x\n")
    rmp, modle = warnings()
    assert "NIGHTMILL_RMP is no setting" in rmp
    assert "did you mean NIGHTMILL_RPM?" in rmp
    assert ".env: NIGHTMILL_MODLE" in modle
    assert "did you mean NIGHTMILL_MODEL?" in modle


def test_secrets_of_files_are_hidden_in_messages(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only secrets of variables were known to what prints."""
    (folder / "key").write_text(KEY)
    (folder / "nightmill.toml").write_text(
        'redis_url = "redis://:hunter22@h/0"\n[headers]\nx-gw = "Bearer t0ken-of-gateway"\n'
        'anthropic-beta = "context-1m-2025-08-07"\n'
    )
    monkeypatch.setenv("NIGHTMILL_API_KEY_FILE", "key")
    monkeypatch.setenv("https_proxy", "http://me:pr0xy-word@proxy:3128")
    text = f"{KEY} hunter22 t0ken-of-gateway pr0xy-word context-1m-2025-08-07"
    for secrets in (Secrets.of_environment(), Secrets.of(load_settings())):
        assert secrets.hidden(text) == f"{'[credential] ' * 4}context-1m-2025-08-07"
