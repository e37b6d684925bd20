"""`nightmill settings`: every setting as this process would use it, and where it comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from nightmill.cli.terminal import echo, echo_json

if TYPE_CHECKING:
    from nightmill.setting_sources import Given
    from nightmill.settings import Loaded

HIDDEN: Final = "***"
DEFAULT: Final = "default"
NOT_SET: Final = "-"


def settings(
    *, json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """Show every setting, its value and its source. Secrets are hidden.

    The first source that has a setting wins: an option of a command, a NIGHTMILL_ variable, .env,
    nightmill.toml, an ANTHROPIC_ variable, the default. nightmill.toml and .env are read in the
    current folder. NIGHTMILL_SETTINGS_FILE names another settings file.

    For example:

    nightmill settings

    nightmill settings --json
    """
    from nightmill.setting_sources import SETTINGS_FILE, settings_file  # noqa: PLC0415
    from nightmill.settings import load  # noqa: PLC0415 - `--help` stays fast

    loaded = load()
    file = settings_file(os.environ)
    rows = {name: _row(loaded, name) for name in type(loaded.settings).model_fields}
    if json:
        found = {name: {"value": value, "source": source} for name, (value, source) in rows.items()}
        path = None if file is None else str(file.resolve())
        echo_json(msgspec.json.encode({"file": path, "settings": found}))
        return
    where = file.resolve() if file else f"none (no {SETTINGS_FILE} in {Path.cwd()})"
    echo(f"settings file: {where}\n")
    width = max(map(len, rows))
    for name, (value, source) in rows.items():
        shown = NOT_SET if value is None else str(value)
        echo(f"{name:{width}}  {shown:26}  {source}".rstrip())


def _row(loaded: Loaded, name: str) -> tuple[object, str]:
    """Return the value of a setting, as it may be shown, and its source."""
    given: Given | None = loaded.given.get(name)
    return _shown(loaded, name), given.source if given else DEFAULT


def _shown(loaded: Loaded, name: str) -> object:
    from nightmill.safety.redaction import NO_SECRET, URL_FIELDS, shown_url  # noqa: PLC0415
    from nightmill.settings import SECRETS  # noqa: PLC0415

    value = getattr(loaded.settings, name)
    if name == "headers" and value is not None:
        headers = loaded.settings.extra_headers.items()
        return "; ".join(f"{k}: {v if k.startswith(NO_SECRET) else HIDDEN}" for k, v in headers)
    if name in SECRETS and value is not None:
        return HIDDEN
    if name in URL_FIELDS and value is not None:
        return shown_url(value)
    return str(value) if isinstance(value, Path) else value
