"""Hides the credentials of this process in texts that come from outside: answers, errors, logs.

A text is searched as a person would read it, with its JSON escapes decoded. Each credential is
found as it is, percent-encoded, as base64 (also inside a longer base64 text) and as hex.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TypeVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec

from nightmill.setting_redis import SENTINEL
from nightmill.setting_sources import secret_values
from nightmill.setting_values import parse_headers

if TYPE_CHECKING:
    from nightmill.settings import Settings

T = TypeVar("T", bound=msgspec.Struct)

HIDDEN: Final = "[credential]"
"""What stands in the place of a credential."""
MIN_CHARS: Final = 8
"""Shorter credentials are not searched for: texts contain them by chance."""
WORD_CHARS: Final = 20
"""A shorter credential without a digit may be a word. It is not searched for in answers."""

SECRETS: Final = ("api_key", "auth_token", "webhook_secret")
URL_FIELDS: Final = ("redis_url", "store_url")
"""Settings that are URLs with a password."""
PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
"""Variables that are URLs of proxies; they are also written in capitals."""
PASSWORD_OPTIONS: Final = ("password", "sslpassword", "sentinel_password")
"""Options of a URL that are passwords."""
NO_SECRET: Final = "anthropic-"  # noqa: S105 - the name of a header
"""How the names of headers begin whose values are no secrets."""

_OTEL_HEADERS: Final = re.compile(r"OTEL_EXPORTER_OTLP_(\w+_)?HEADERS")
"""Variables of OpenTelemetry with credentials. Its exporter warns with a header it cannot read."""
_HEADER_NAME: Final = re.compile(r"[\s\"'{\[\\]*[\w.%-]+[\s\"'\\]*[=:]")
_AROUND_VALUE: Final = " \t\r\n\"'{}[]\\"

_USERINFO: Final = re.compile(r"(://[^/?#:@]*:).*@")
_PASSWORD_OPTION: Final = re.compile(rf"([?&](?:{'|'.join(PASSWORD_OPTIONS)})=)[^&#]*")
_URL_USER: Final = re.compile(r"(?<=://)(?!\w*:\*\*\*@)([^/\s\"'@:]*:)?[^/\s\"']*@")
"""User and password of a URL, unless the password is hidden already."""
# Encoders write some printable characters of ASCII as escapes: \u003c, \/.
_ESCAPE: Final = re.compile(r"\\(?:u00([2-7][0-9a-fA-F])|(/))")
_ESCAPED: Final = b"\\u00"
_encode: Final = msgspec.json.Encoder().encode


class Secrets:
    """The credentials of a process, and the texts without them."""

    def __init__(self, values: Iterable[str]) -> None:
        """Take the credentials. Those that texts contain by chance are left out."""
        long = [value.strip() for value in values if len(value.strip()) >= MIN_CHARS]
        forms = {form for value in long for form in _forms(value)}
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        unique = (value for value in long if not _may_be_word(value))
        self._needles = tuple({form for value in unique for form in _json_forms(value)})
        self.shortest = min(map(len, self._forms), default=sys.maxsize)
        """Characters of the shortest text that is searched for."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the credentials of the settings, with the passwords of its URLs."""
        fields = (getattr(settings, name) for name in SECRETS)
        values = [field.get_secret_value() for field in fields if field is not None]
        values += _of_headers(settings.extra_headers)
        urls = [getattr(settings, name) for name in URL_FIELDS]
        values += _of_otel_headers(os.environ)
        return cls([*values, *_of_urls([*urls, *_proxies(os.environ)])])

    @classmethod
    def of_environment(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Return all credentials of this process, for a command whose settings are not known."""
        values, urls = [*_of_otel_headers(env)], _proxies(env)
        for name, value in secret_values(env):
            if name in URL_FIELDS:
                urls.append(value)
            elif name in SECRETS:
                values.append(value)
            else:
                with suppress(ValueError):
                    values += _of_headers(parse_headers(value))
        return cls([*values, *_of_urls(urls)])

    def __repr__(self) -> str:
        """Name how many texts are searched for, and none of them."""
        return f"<Secrets forms={len(self._forms)}>"

    def hidden(self, text: str) -> str:
        """Return a text about an error without credentials, also where the text was cut in one.

        The users and passwords of URLs are hidden too.
        """
        if "://" in text:
            text = _URL_USER.sub(rf"\1{HIDDEN}@", text)
        if "\\" in text:
            plain = _ESCAPE.sub(_unescaped, text)
            text = plain if any(form in plain for form in self._forms) else text
        return self._without_cut(self._without(text))

    def hidden_json(self, body: bytes) -> bytes:
        """Return a JSON text without credentials. It stays as it is when it has none, to the byte.

        This is done for every answer, so it costs five searches for bytes.
        """
        for needle in self._needles:
            if needle in body:
                return self._decoded(body)
        if self._needles and _ESCAPED in body:
            plain = _ESCAPE.sub(_unescaped, body.decode(errors="replace"))
            if any(form in plain for form in self._forms):
                return self._decoded(body)
        return body

    def hidden_in(self, record: T) -> T:
        """Return a record without credentials in its texts, and in the texts of its records."""
        changes: dict[str, object] = {}
        for name in record.__struct_fields__:
            value = getattr(record, name)
            if isinstance(value, str):
                now: object = self.hidden(value)
            elif isinstance(value, msgspec.Struct):
                now = self.hidden_in(value)
            else:
                continue
            if now != value:
                changes[name] = now
        return msgspec.structs.replace(record, **changes) if changes else record

    def _decoded(self, body: bytes) -> bytes:
        """Return JSON with the credentials of its strings and keys hidden."""
        try:
            return _encode(_walked(msgspec.json.decode(body), self._without))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._without(body.decode(errors="replace")).encode()

    def _without(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text

    def _without_cut(self, text: str) -> str:
        """Hide the beginning of a credential at the end of a text, which was cut there."""
        for form in self._forms:
            start = text.rfind(form[:MIN_CHARS])
            if start >= 0 and form.startswith(text[start:]):
                return text[:start] + HIDDEN
        return text


def _of_urls(urls: Iterable[str | None]) -> Iterator[str]:
    """Yield the passwords of URLs, as they are written and as they are meant.

    A password that is also another part of its URL is a word of error messages: postgres.
    """
    for url in urls:
        try:
            parts = urlsplit(_plain(url or ""))
            given = [parts.password or ""]
            options = parse_qs(parts.query)
            given += (word for name in PASSWORD_OPTIONS for word in options.get(name, ()))
        except ValueError:
            continue
        others = f"{parts.scheme} {parts.username} {parts.hostname} {parts.path}"
        yield from (word for one in given for word in (one, unquote(one)) if word not in others)


def _plain(url: str) -> str:
    """Return a URL with one host: urlsplit knows no list of Sentinels."""
    scheme, _, rest = url.partition("://")
    if not scheme.endswith(SENTINEL):
        return url
    user, at, hosts = rest.partition("/")[0].rpartition("@")
    return f"{scheme}://{user}{at}" + rest.removeprefix(f"{user}{at}{hosts}")


def shown_url(url: str) -> str:
    """Return a URL as it may be shown: with *** in the place of passwords."""
    url = _USERINFO.sub(r"\1***@", url)
    return _PASSWORD_OPTION.sub(r"\1***", url)


def _proxies(env: Mapping[str, str]) -> list[str]:
    return [env[key] for key in env if key.lower() in PROXIES]


def _of_headers(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the values of headers that may be secrets, without the scheme in front: Bearer."""
    for name, value in headers.items():
        if not name.startswith(NO_SECRET):
            yield value.rpartition(" ")[2]


def _of_otel_headers(env: Mapping[str, str]) -> Iterator[str]:
    """Yield the values of OTEL_EXPORTER_OTLP_HEADERS, also where they are written wrongly.

    The right form is name=value,name=value with %20 for a space.
    """
    for variable, text in env.items():
        if not _OTEL_HEADERS.fullmatch(variable):
            continue
        for part in (*text.split(","), *re.split(r"[,;\n]", text)):
            value = _HEADER_NAME.sub("", part, count=1).strip(_AROUND_VALUE)
            # "dG9rZW4=" alone looks like a name and an empty value.
            value = value if len(value) >= MIN_CHARS else part.strip(_AROUND_VALUE)
            for form in (value, unquote(value)):
                yield form
                yield form.rpartition(" ")[2]


def _may_be_word(value: str) -> bool:
    return len(value) < WORD_CHARS and not any(map(str.isdigit, value))


def _forms(value: str) -> Iterator[str]:
    """Yield the texts that reveal `value`."""
    yield value
    yield quote(value, safe="")
    yield value.encode().hex()
    yield value.encode().hex().upper()
    yield from _base64(value)


def _json_forms(value: str) -> Iterator[bytes]:
    """Yield what is searched for in the JSON of answers: fewer texts, since each costs time."""
    for form in (value, quote(value, safe=""), *_base64(value)):
        quoted = _encode(form)[1:-1]
        yield quoted
        yield quoted.replace(b"/", b"\\/")


def _base64(value: str) -> Iterator[str]:
    """Yield the parts of base64 texts that depend on `value` alone.

    base64 encodes groups of three bytes, and `value` may begin at each of them.
    """
    data = value.encode()
    for before in range(3):
        text = base64.b64encode(bytes(before) + data).decode()
        inner = text[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


def _unescaped(found: re.Match[str]) -> str:
    return found[2] or chr(int(found[1], 16))


def _walked(value: object, change: Callable[[str], str]) -> object:
    """Return decoded JSON with every string and key changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(name): _walked(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [_walked(item, change) for item in value]
    return value
