"""Credentials in texts from outside: found in every form that reveals them, and nothing else is."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import msgspec
import pytest

from nightmill.records.result import ErrorInfo
from nightmill.safety.redaction import HIDDEN, Secrets
from nightmill.settings import load_settings

KEY = "sk-ant-api03-Zm9v/bar+Qx7_w-9AA"
SECRETS = Secrets([KEY])


def escaped(text: str) -> str:
    """Return a text with every character as an escape of JSON."""
    return "".join(f"\\u{ord(char):04x}" for char in text)


FORMS = [
    KEY,
    quote(KEY, safe=""),
    KEY.encode().hex(),
    escaped(KEY),
    KEY.replace("/", "\\/"),
    *(base64.b64encode(f"{before}{KEY}:rest".encode()).decode() for before in ("", "a", "ab")),
    base64.urlsafe_b64encode(f"user:{KEY}".encode()).decode(),
]


@pytest.mark.parametrize("form", FORMS)
def test_a_credential_is_hidden_in_every_form(form: str) -> None:
    """An error in base64, and one with JSON escapes, reached rows and exports."""
    text = SECRETS.hidden(f"refused: {form} (401)")
    assert HIDDEN in text
    assert text.startswith("refused: ")
    assert text.endswith(" (401)")
    assert KEY[4:] not in text
    for part in (form, form[8:24]):
        assert part not in text


@pytest.mark.parametrize("form", [form for form in FORMS if not form.startswith("736b")])
def test_a_credential_in_an_answer_is_hidden(form: str) -> None:
    """A gateway for debugging answers with the headers of the request."""
    quoted = form if "\\" in form else json.dumps(form)[1:-1]
    body = f'{{"content":[{{"type":"text","text":"you sent {quoted}!"}}],"n":1.50}}'.encode()
    found = json.loads(SECRETS.hidden_json(body))
    assert HIDDEN in found["content"][0]["text"]
    assert found["content"][0]["text"].endswith("!")
    assert KEY not in json.dumps(found)


def test_an_answer_without_a_credential_stays_as_it_is() -> None:
    """It is data: not one byte changes, also where it has escapes."""
    body = b'{"text":"caf\\u00e9 \\u003cb> sk-ant-api03-other \\/ ","n":1.50e3}'
    assert SECRETS.hidden_json(body) is body


def test_an_answer_that_is_no_json_is_searched_too() -> None:
    """A paid answer that cannot be understood is stored as it came."""
    assert SECRETS.hidden_json(b"\xff<p>" + KEY.encode()) == f"\ufffd<p>{HIDDEN}".encode()


@pytest.mark.parametrize("kept", [8, 20, len(KEY) - 1])
def test_a_credential_that_was_cut_is_hidden(kept: int) -> None:
    """Messages are cut at a number of characters, which may be inside the credential."""
    assert SECRETS.hidden(f"no such key: {KEY[:kept]}") == f"no such key: {HIDDEN}"


def test_a_short_credential_garbles_no_text() -> None:
    """With the key "e", an error became "typ[credential]" and was not understood."""
    secrets = Secrets(["e", "", "  ", "1234567"])
    assert secrets.hidden("credit balance: 12345678") == "credit balance: 12345678"
    assert secrets.hidden_json(b'{"e":1}') == b'{"e":1}'
    assert repr(secrets) == "<Secrets forms=0>"


def test_a_credential_that_may_be_a_word_is_hidden_in_errors_only() -> None:
    """Local gateways take any key, such as lm-studio: an answer about it is data."""
    secrets = Secrets(["lm-studio"])
    assert secrets.hidden("bad key lm-studio") == f"bad key {HIDDEN}"
    assert secrets.hidden_json(b'"I run lm-studio"') == b'"I run lm-studio"'


def test_the_texts_of_a_record_and_of_its_records_are_searched() -> None:
    """An error has three texts, and any of them may be the endpoint's."""
    error = ErrorInfo(type=KEY, message=f"a {KEY}", fix=None)

    class Outer(msgspec.Struct, frozen=True):
        error: ErrorInfo
        n: int

    found = SECRETS.hidden_in(Outer(error, 1))
    assert found == Outer(ErrorInfo(type=HIDDEN, message=f"a {HIDDEN}", fix=None), 1)
    same = Outer(ErrorInfo(type="t", message="m", fix="f"), 2)
    assert SECRETS.hidden_in(same) is same


def test_every_secret_of_the_settings_is_known() -> None:
    """The credential of calls is one of five."""
    settings = load_settings(
        auth_token="bearer-0123456789",  # noqa: S106 - not a secret
        webhook_secret="whsec_" + base64.b64encode(bytes(range(24))).decode(),
        redis_url="rediss://:redis%2Fpass1@h/0",
        store_url="postgresql://u@h/db?password=pg-pass-01",
    )
    secrets = Secrets.of(settings)
    for secret in (
        "bearer-0123456789",
        settings.webhook_secret.get_secret_value() if settings.webhook_secret else "",
        "redis%2Fpass1",
        "redis/pass1",
        "pg-pass-01",
    ):
        assert secrets.hidden(f"with {secret}.") == f"with {HIDDEN}."
    env = {name: value for name, value in settings.to_env().items() if "URL" in name}
    assert Secrets.of_environment(env).hidden("AUTH redis/pass1") == f"AUTH {HIDDEN}"


@pytest.mark.parametrize(
    "given",
    [
        f"authorization: Bearer {KEY}",
        json.dumps({"authorization": f"Bearer {KEY}", "x-team": "a"}),
        f'"authorization=Bearer {KEY}"',
        f"'x-api-key'='{KEY}'",
        f"x-team=a;authorization=Bearer {KEY}",
        f"authorization=Bearer {KEY};x-team=a",
        f"authorization=Bearer%20{quote(KEY, safe='')}",
        f"authorization Bearer {KEY}",
        KEY,
        f"{KEY}=",
    ],
)
@pytest.mark.parametrize("variable", ["HEADERS", "TRACES_HEADERS"])
def test_a_header_for_opentelemetry_is_hidden_in_any_form(
    monkeypatch: pytest.MonkeyPatch, variable: str, given: str
) -> None:
    """Its exporter warns with the whole header when it cannot read it."""
    name = f"OTEL_EXPORTER_OTLP_{variable}"
    monkeypatch.setenv(name, given)
    for secrets in (Secrets.of(load_settings()), Secrets.of_environment({name: given})):
        for text in (given, KEY, f"Bearer {KEY}", *given.split(",")):
            shown = secrets.hidden(f"Header format invalid! {text}")
            assert shown.startswith("Header format invalid! ")
            assert HIDDEN in shown or KEY not in text
            assert KEY not in shown
            assert quote(KEY, safe="") not in shown
        assert secrets.hidden("no authorization for x-team") == "no authorization for x-team"


def test_a_password_that_is_a_part_of_its_url_garbles_no_text() -> None:
    """It is a word of every error about the store."""
    secrets = Secrets.of_environment({"NIGHTMILL_STORE_URL": "postgresql://postgres:postgres@h/x"})
    assert secrets.hidden("postgresql: no role postgres") == "postgresql: no role postgres"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h:1/0", f"redis://:{HIDDEN}@h:1/0"),
        ("postgresql://u:p@ss@h/db", f"postgresql://u:{HIDDEN}@h/db"),
        ("https://token@h/x, s3://b/k", f"https://{HIDDEN}@h/x, s3://b/k"),
        ("postgresql://u:***@h/db", "postgresql://u:***@h/db"),
        ("http://h/a@b", "http://h/a@b"),
    ],
)
def test_the_password_of_any_url_is_hidden(url: str, shown: str) -> None:
    """Also that of an option, which no setting of the environment names."""
    assert Secrets([]).hidden(f"no answer from {url}") == f"no answer from {shown}"
