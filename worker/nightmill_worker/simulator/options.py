"""The options of `nightmill simulate`, made from the config's own fields and defaults."""

import inspect
import types
from typing import Annotated, Union, get_args, get_origin

import msgspec
import typer

from nightmill_worker.simulator.config import (
    SimulatorConfig,
    make_config,
    parse_fault,
    parse_stall,
)

PACE, LIMITS, FAULTS, LINE = "Pace", "Limits", "Faults", "Credential and line"
DEFAULT_LATENCY_S = 1.0
HELP: dict[str, dict[str, str]] = {
    PACE: {
        "latency_s": "Mean seconds of a call.",
        "jitter": "Spread around it, as a share of it.",
        "output_tokens": "Mean tokens of an answer.",
        "seed": "Same seed, same answers and faults.",
    },
    LIMITS: {
        "rpm": "Requests a minute.",
        "itpm": "Input tokens a minute.",
        "otpm": "Output tokens a minute.",
        "burst": "Requests the request bucket holds (default: a minute's worth); "
        "token buckets hold the same share of theirs.",
        "cap": "Most calls in flight.",
        "other_tenant": "Share of every refill that another user of the key takes.",
        "otpm_reserve": "Take max_tokens at admission and refund what was not generated.",
        "headers": "Send the rate-limit headers.",
        "retry_after": "Send retry-after with a 429.",
        "name_dimension": "Say in a 429 which limit refused.",
        "rate_limit_type": "Error type of a 429.",
    },
    FAULTS: {
        "fail": "Share of calls answered with a status, such as 529:0.05; repeatable.",
        "stall": "Share of calls that hang before they go on, for 600 s or as given: 0.01:30.",
        "truncate": "Share of answers cut half way.",
        "sse_error": "Share of streams that end in an error event.",
        "drop": "Share of connections closed before an answer.",
        "wrong_type": "Share of 200s that are an HTML page.",
        "should_retry": "Send x-should-retry with every error.",
    },
    LINE: {
        "auth": "The only key accepted (default: any).",
        "credit_exhausted": "Answer 400, the credit balance is too low.",
        "spend_limit": "Answer 429, the spend limit is reached.",
        "down": "Answer every call with this status.",
    },
}
METAVARS = {"fail": "STATUS:SHARE", "stall": "SHARE[:SECONDS]", "auth": "KEY"}


def config_parameters() -> list[inspect.Parameter]:
    """Return one keyword parameter an option, annotated for typer."""
    fields = {field.name: field for field in msgspec.structs.fields(SimulatorConfig)}
    parameters = []
    for panel, entries in HELP.items():
        for name, text in entries.items():
            kind, default = _special(name) or (_plain(fields[name].type), fields[name].default)
            parameters.append(_parameter(name, kind, default, text, panel))
    return parameters


def _special(name: str) -> tuple[object, object] | None:
    """Return type and default of the options that are not simply a field."""
    specials: dict[str, tuple[object, object]] = {
        "latency_s": (float, DEFAULT_LATENCY_S),
        "fail": (list[str] | None, None),
        "stall": (str, "0"),
    }
    return specials.get(name)


def _plain(kind: object) -> object:
    """Strip the field's bounds, which the config checks itself."""
    if get_origin(kind) is Annotated:
        return get_args(kind)[0]
    if get_origin(kind) in {Union, types.UnionType}:
        return Union[tuple(_plain(part) for part in get_args(kind))]  # noqa: UP007 (made at run time)
    return kind


def _parameter(
    name: str, kind: object, default: object, text: str, panel: str
) -> inspect.Parameter:
    flag = name.removesuffix("_s").replace("_", "-")
    names = f"--{flag}/--no-{flag}" if bool in (kind, *get_args(kind)) else f"--{flag}"
    option = typer.Option(names, help=text, rich_help_panel=panel, metavar=METAVARS.get(name))
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, option],
    )


def config_from_options(options: dict[str, object]) -> SimulatorConfig:
    """Build the config from the options' values; raises `ConfigError` naming the field."""
    fail, stall = options.pop("fail"), str(options.pop("stall"))
    faults = tuple(parse_fault(str(text)) for text in fail) if isinstance(fail, list) else ()
    share, seconds = parse_stall(stall)
    fields = options | {"faults": faults, "stall": share}
    return make_config(fields if seconds is None else fields | {"stall_s": seconds})
