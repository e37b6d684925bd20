"""Where settings come from: options, variables, a .env file, a settings file, files of secrets.

Of two sources that give a setting, the first one in this list wins:

1. an option of a command, or an argument
2. a NIGHTMILL_* variable; NIGHTMILL_API_KEY_FILE names a file that holds NIGHTMILL_API_KEY
3. the same variables in the file .env of the current folder
4. nightmill.toml in the current folder, or the file that NIGHTMILL_SETTINGS_FILE names
5. ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY and ANTHROPIC_AUTH_TOKEN, as variables or in .env

The two credentials are taken together from one source, so that a call never mixes them.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from nightmill.errors import SettingsError

if TYPE_CHECKING:
    from pydantic import ValidationError

PREFIX: Final = "NIGHTMILL_"
SDK_PREFIX: Final = "ANTHROPIC_"
CREDENTIALS: Final = ("api_key", "auth_token")
OF_SDK: Final = ("base_url", *CREDENTIALS)
IN_FILES: Final = (*CREDENTIALS, "webhook_secret", "headers", "redis_url", "store_url")
"""Settings that hold a secret: NAME_FILE names a file that holds the value."""
FILE: Final = "_FILE"
SETTINGS_FILE: Final = "nightmill.toml"
SETTINGS_FILE_VARIABLE: Final = PREFIX + "SETTINGS_FILE"
DOTENV: Final = ".env"
MAX_SECRET_BYTES: Final = 64 << 10
OPTION: Final = "option"
# Kubernetes sets such variables for a service whose name begins with "nightmill-".
_OF_KUBERNETES: Final = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)\w*)?)$")


short: Final = reprlib.Repr()
short.maxstring = short.maxother = 200


class Given(NamedTuple):
    """A value as it was given."""

    value: object
    source: str
    """Where, for a person: "NIGHTMILL_RPM", ".env: NIGHTMILL_RPM", "nightmill.toml: rpm"."""
    typed: bool = False
    """Whether the source has types, as TOML has."""


Level: TypeAlias = dict[str, Given]


def given_settings(
    names: Collection[str], overrides: Mapping[str, object], env: Mapping[str, str]
) -> Level:
    """Return setting -> what was given for it, of the first source that has it.

    Raises SettingsError for a name that `overrides` or the settings file has, but `names` has not,
    and for files that cannot be read.
    """
    for name in overrides:
        if name not in names:
            raise SettingsError(f"{name}: no such setting{did_you_mean(name, names)}")
    dotenv = _dotenv()
    levels = [{name: Given(value, OPTION) for name, value in overrides.items()}]
    levels += [variables(names, env), variables(names, dotenv, f"{DOTENV}: ")]
    levels += [_toml(names, {**dotenv, **env})]
    levels += [_of_sdk(env), _of_sdk(dotenv, f"{DOTENV}: ")]
    found: Level = {}
    for level in levels:
        has_credential = any(name in found for name in CREDENTIALS)
        for name, given in level.items():
            if name not in found and not (has_credential and name in CREDENTIALS):
                found[name] = given
    return found


def one_setting(name: str, env: Mapping[str, str]) -> str | None:
    """Return one setting as text, unchecked: for a command that must not load all of them."""
    dotenv = _dotenv()
    for level in (
        variables([name], env),
        variables([name], dotenv),
        _toml(None, {**dotenv, **env}),
    ):
        if name in level:
            return str(level[name].value)
    return None


def variables(names: Collection[str], env: Mapping[str, str], where: str = "") -> Level:
    """Return what the NIGHTMILL_* variables of `env` give. An empty variable is not set."""
    given = {key.upper(): (key, value) for key, value in env.items() if value}
    found: Level = {}
    for name in names:
        variable = PREFIX + name.upper()
        if pair := given.get(variable):
            found[name] = Given(pair[1], where + pair[0])
        if name in IN_FILES and (pair := given.get(variable + FILE)):
            _require_one(name, found, f"{where}{variable}", f"{where}{variable}{FILE}")
            found[name] = Given(_secret(pair[1], where + pair[0]), where + pair[0])
    return found


def unknown_variables(names: Collection[str], env: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each NIGHTMILL_* variable, also of .env, that is no setting."""
    known = [PREFIX + name.upper() for name in names]
    known += [PREFIX + name.upper() + FILE for name in IN_FILES if name in names]
    known.append(SETTINGS_FILE_VARIABLE)
    for where, variables in (("", env), (f"{DOTENV}: ", _dotenv())):
        for key in variables:
            name = key.upper()
            if name.startswith(PREFIX) and name not in known and not _OF_KUBERNETES.search(name):
                hint = did_you_mean(name, known)
                yield f"warning: {where}{key} is no setting and does nothing{hint}"


def secret_values(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (setting, value) for all secrets of all sources; skip what cannot be read."""
    dotenv = _dotenv()
    readers = [partial(variables, IN_FILES, env), partial(variables, IN_FILES, dotenv)]
    readers += [partial(_toml, None, {**dotenv, **env}), partial(_of_sdk, env)]
    readers += [partial(_of_sdk, dotenv)]
    for read in readers:
        try:
            level = read()
        except SettingsError:
            continue
        for name in IN_FILES:
            value = level[name].value if name in level else ""
            yield name, value if isinstance(value, str) else json.dumps(value, default=str)


def settings_file(env: Mapping[str, str]) -> Path | None:
    """Return the path of the settings file, None when there is none."""
    if named := env.get(SETTINGS_FILE_VARIABLE):
        return Path(named)
    path = Path(SETTINGS_FILE)
    return path if path.is_file() else None


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return the end of a message about a `name` that is not `known`."""
    import difflib  # noqa: PLC0415 - rarely needed

    plain = {each.lower().removeprefix(PREFIX.lower()): each for each in known}
    asked = name.lower().removeprefix(PREFIX.lower()).replace("-", "_")
    close = difflib.get_close_matches(asked, plain, n=1)
    return f"; did you mean {plain[close[0]]}?" if close else ""


def _dotenv() -> dict[str, str]:
    """Return the variables of .env. It is other programs' file too, so it may be unreadable."""
    path = Path(DOTENV)
    try:
        if not path.is_file():
            return {}
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError):
        return {}
    if PREFIX not in text.upper() and SDK_PREFIX not in text:
        return {}
    from io import StringIO  # noqa: PLC0415 - most folders have no such file

    from dotenv import dotenv_values  # noqa: PLC0415

    return {key: value for key, value in dotenv_values(stream=StringIO(text)).items() if value}


def _of_sdk(env: Mapping[str, str], where: str = "") -> Level:
    """Return what the variables of the SDK give."""
    given = {name: SDK_PREFIX + name.upper() for name in OF_SDK}
    return {name: Given(env[key], where + key) for name, key in given.items() if env.get(key)}


def _toml(names: Collection[str] | None, env: Mapping[str, str]) -> Level:
    """Return what the settings file gives. `names` None: unknown names are no error."""
    path = settings_file(env)
    if path is None:
        return {}
    import tomllib  # noqa: PLC0415 - most folders have no such file

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeError:
        raise SettingsError(f"{path}: cannot be read: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None
    found: Level = {}
    for key, value in content.items():
        name = key.removesuffix(FILE.lower())
        if name != key and name in IN_FILES and isinstance(value, str):
            _require_one(name, content, f"{path}: {name}", f"{path}: {key}")
            found[name] = Given(_secret(value, f"{path}: {key}"), f"{path}: {key}", typed=True)
        elif names is not None and key not in names:
            raise SettingsError(f"{path}: {key}: no such setting{did_you_mean(key, names)}")
        elif value != "":
            found[key] = Given(value, f"{path}: {key}", typed=True)
    return found


def _require_one(name: str, among: Collection[str], one: str, other: str) -> None:
    if name in among:
        raise SettingsError(f"{one} and {other} are both set: unset either")


def _text(path: str) -> str:
    with Path(path).open(encoding="utf-8") as file:
        return file.read(MAX_SECRET_BYTES).strip()


_text_once = cache(_text)
"""A pipe, such as <(pass show key) of a shell, can be read only once."""


def _secret(path: str, source: str) -> str:
    """Return the text of a file that holds a secret, without white space around it."""
    try:
        text = (_text if Path(path).is_file() else _text_once)(path)
    except OSError as error:
        raise SettingsError(f"{source}: cannot read {path}: {error.strerror}") from None
    except UnicodeError:
        raise SettingsError(f"{source}: {path} is not a text in UTF-8") from None
    if not text:
        raise SettingsError(f"{source}: {path} is empty")
    return text


def explained(error: ValidationError, given: Mapping[str, Given], secrets: Sequence[str]) -> str:
    """Return the first error of pydantic as one line, without the value of one of `secrets`."""
    first = error.errors()[0]
    problem = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return problem
    name, value = str(first["loc"][0]), str(first["input"])
    source = given[name].source if name in given else OPTION
    where = PREFIX + name.upper() if source == OPTION else source
    secret = name in secrets or "@" in value or "?" in value  # it may be a password
    shown = "" if secret else f" (given: {short.repr(first['input'])})"
    return f"{where}: {problem}{shown}"
