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
    parse_stop,
)

LATENCY, LIMITS, FAULTS, ACCOUNT = "Latency and size", "Limits", "Faults", "Credential and account"
DEFAULT_LATENCY_S = 1.0
HELP: dict[str, dict[str, str]] = {
    LATENCY: {
        "latency_s": "Mean duration of a call, seconds.",
        "jitter": "Largest deviation from it, as a share of it (0 to 1).",
        "output_tokens": "Mean output tokens of an answer.",
        "schema": "JSON Schema, as JSON, that texts fit (default: that of the request).",
        "seed": "The same seed gives the same answers and faults.",
    },
    LIMITS: {
        "rpm": "Requests a minute.",
        "itpm": "Input tokens a minute.",
        "otpm": "Output tokens a minute.",
        "fast_itpm": "Input tokens a minute of calls in fast mode, which have limits of their own.",
        "fast_otpm": "Output tokens a minute of calls in fast mode.",
        "burst": "Requests that the request bucket holds (default: those of a minute). "
        "The token buckets hold the same share of a minute's tokens.",
        "cap": "Calls in flight at most.",
        "other_tenant": "Share of every refill that another user of the key takes (0 to 1).",
        "otpm_reserve": "Charge max_tokens at admission, and refund what was not generated.",
        "headers": "Send the rate-limit headers.",
        "retry_after": "Send retry-after with a 429.",
        "name_dimension": "Name in a 429 the limit that refused.",
        "rate_limit_type": "Error type of a 429.",
    },
    FAULTS: {
        "fail": "Share of calls answered with a status, such as 529:0.05. May be repeated.",
        "stop": "Share of prompts whose answers stop with a reason, such as max_tokens:0.1, "
        "pause_turn:0.05 or refusal:0.02. May be repeated.",
        "stall": "Share of calls that pause for 600 s, or for the seconds given: 0.01:30.",
        "truncate": "Share of answers cut after half of the body.",
        "sse_error": "Share of streams that end with an error event.",
        "drop": "Share of calls whose connection closes without an answer.",
        "wrong_type": "Share of 200s whose body is an HTML page.",
        "invalid": "Share of the answers to a schema that do not fit it.",
        "should_retry": "Send x-should-retry with every error.",
        "block": "Answer prompts with this text 403 and an HTML page, as a firewall does.",
        "echo": "Answer prompts with this text 400, and repeat the prompt in the error.",
    },
    ACCOUNT: {
        "auth": "The only key that is accepted (default: any key).",
        "credit_exhausted": "Answer every call 400: the credit balance is too low.",
        "spend_limit": "Answer every call 429: the spend limit is reached.",
        "error_code": "Answer every call with this error.details.error_code.",
        "spent_profile": "Answer calls of this user_profile_id as over its spend limit.",
        "deny_model": "Answer calls of this model 403: the key may not use it.",
        "down": "Answer every call with this status.",
    },
}
METAVARS = {
    "fail": "STATUS:SHARE",
    "stop": "REASON:SHARE",
    "stall": "SHARE[:SECONDS]",
    "auth": "KEY",
    "error_code": "CODE",
    "spent_profile": "ID",
    "deny_model": "MODEL",
    "schema": "JSON",
}


def config_parameters() -> list[inspect.Parameter]:
    """Return one keyword parameter for each option, annotated for typer."""
    fields = {field.name: field for field in msgspec.structs.fields(SimulatorConfig)}
    parameters = []
    for panel, entries in HELP.items():
        for name, text in entries.items():
            kind, default = _special(name) or (_plain(fields[name].type), fields[name].default)
            parameters.append(_parameter(name, kind, default, text, panel))
    return parameters


def _special(name: str) -> tuple[object, object] | None:
    """Return type and default of an option that is not simply a field; None: it is one."""
    specials: dict[str, tuple[object, object]] = {
        "latency_s": (float, DEFAULT_LATENCY_S),
        "fail": (list[str] | None, None),
        "stop": (list[str] | None, None),
        "stall": (str, "0"),
    }
    return specials.get(name)


def _plain(kind: object) -> object:
    """Remove the bounds of a field's type; the config checks them itself."""
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
    fail, stall, stop = options.pop("fail"), str(options.pop("stall")), options.pop("stop")
    stops = tuple(parse_stop(str(text)) for text in stop) if isinstance(stop, list) else ()
    faults = tuple(parse_fault(str(text)) for text in fail) if isinstance(fail, list) else ()
    share, seconds = parse_stall(stall)
    fields = options | {"faults": faults, "stops": stops, "stall": share}
    return make_config(fields if seconds is None else fields | {"stall_s": seconds})
