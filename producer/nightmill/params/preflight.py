"""The preflight: finds what an endpoint would refuse by API version and model, before it is paid.

refusals.toml says what is refused, and this module how it is recognised. A certain refusal is an
error at the provider's own host. At every other endpoint, and where it is doubtful, it is a
warning: a gateway may change the request, and other servers may take it. The contract in `rules`
holds everywhere. No I/O but reading the table once.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from nightmill.errors import InvalidParamsError
from nightmill.params.preflight_checks import find, turns_of
from nightmill.params.refusal import given

Generation = tuple[int, int]

_FAMILIES: Final = "opus|sonnet|haiku|fable|mythos"
_NUMBER: Final = r"(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)"
_NAMES: Final = (
    re.compile(rf"claude-(?P<family>{_FAMILIES})-{_NUMBER}"),
    re.compile(rf"claude-{_NUMBER}-(?P<family>{_FAMILIES})"),
)
_DATE: Final = -len("2026-10-21")
"""A version ends in its date: gateways write a name before it."""
OFF: Final = "--no-preflight (PREFLIGHT=false) sends it all the same"


class Preflight(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint that requests are for."""

    version: str
    """The API version of requests that name none."""
    provider: bool
    """Whether it is the provider's own host: certain refusals are errors then."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One refusal; see refusals.toml."""

    check: str
    refuses: str
    fix: str
    since: str = ""
    models: dict[str, str] = {}
    before: dict[str, str] = {}
    certain: bool = True


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of refusals.toml."""

    checked: object
    hosts: tuple[str, ...]
    version: str
    newest: dict[str, str]
    rule: tuple[Rule, ...]


class Applied(NamedTuple):
    """A rule that holds for a model and a version; `certain`: it is known to."""

    rule: Rule
    certain: bool


@cache
def table() -> Table:
    """Return what refusals.toml says."""
    text = files("nightmill.params").joinpath("refusals.toml").read_text()
    return msgspec.convert(tomllib.loads(text), Table)


def is_provider(endpoint: str) -> bool:
    """Tell whether the address of an endpoint is the provider's own host."""
    return (urlsplit(endpoint).hostname or "").lower() in table().hosts


def examine(request: dict[str, object], version: str, *, provider: bool) -> tuple[str, ...]:
    """Return a warning for each refusal that `request` (decoded JSON) would meet at `version`.

    `provider`: the endpoint is the provider's own host. There, the first certain one raises
    InvalidParamsError, which names the field, its value, what is refused and the fix.
    """
    warnings, turns = [], turns_of(request)
    for rule, certain in rules_of(str(request["model"]), version):
        found = find(rule.check, request, turns)
        if found is None:
            continue
        if certain and provider:
            field, value = found
            raise InvalidParamsError(field, f"{given(value)}; {rule.refuses}; {rule.fix}; {OFF}")
        warnings.append(f"the endpoint may refuse this: {rule.refuses}; {rule.fix}")
    return tuple(warnings)


@lru_cache(maxsize=256)
def rules_of(model: str, version: str) -> tuple[Applied, ...]:
    """Return the rules that hold for `model` at API version `version`."""
    known, found, date = table(), generation_of(model), version[_DATE:]
    applied = []
    for rule in known.rule:
        if rule.since > date:
            continue
        if (rule.models or rule.before) and not _holds(rule, found, known.newest):
            continue
        doubtful = rule.since and date > known.version
        applied.append(Applied(rule, rule.certain and not doubtful))
    return tuple(applied)


@lru_cache(maxsize=256)
def limits_sampling(model: str, version: str) -> bool:
    """Tell whether a rule about temperature and top_p holds for `model` at `version`."""
    return any(rule.check.startswith("sampling") for rule, _ in rules_of(model, version))


def generation_of(model: str) -> tuple[str, Generation] | None:
    """Return the family of a model and its number: ("opus", (4, 7)); None when it has none."""
    for name in _NAMES:
        if match := name.search(model.lower()):
            numbers = [each for each in match.groups() if each is None or each.isdigit()]
            return match["family"], (int(numbers[0] or 0), int(numbers[1] or 0))
    return None


def _holds(rule: Rule, model: tuple[str, Generation] | None, newest: dict[str, str]) -> bool:
    """Tell whether a rule for models holds for one. It does not for one newer than `newest`."""
    if model is None:
        return False
    family, number = model
    if number > _number(newest[family]):
        return False
    if family in rule.models:
        return number >= _number(rule.models[family])
    return family in rule.before and number < _number(rule.before[family])


def _number(text: str) -> Generation:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)
