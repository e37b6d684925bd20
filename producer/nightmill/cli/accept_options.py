"""Options that say which answers are results, shared by `run`, `enqueue` and `adjust`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias, get_args

import typer

from nightmill.errors import SchemaError, SettingsError

if TYPE_CHECKING:
    from nightmill.records.acceptance import Accepted
    from nightmill.settings import Settings

_Plain: TypeAlias = Literal[
    "on_truncated",
    "max_tokens_ceiling",
    "on_pause",
    "on_refusal",
    "schema_tool",
    "check",
    "check_retries",
    "check_reask",
]


_PLAIN: Final[tuple[_Plain, ...]] = get_args(_Plain)
"""Options whose values are those of `Batch.accept`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptOptions:
    """What a batch accepts as a result. None: it stays as it is, by default every answer."""

    on_truncated: Annotated[
        Literal["keep", "fail", "grow"] | None,
        typer.Option(
            help="Answers cut at max_tokens: keep them, fail, or call again with max_tokens "
            "doubled.  [default: keep]"
        ),
    ] = None
    max_tokens_ceiling: Annotated[
        int | None,
        typer.Option(min=1, help="The largest max_tokens of --on-truncated grow."),
    ] = None
    on_pause: Annotated[
        Literal["continue", "keep"] | None,
        typer.Option(
            help="Answers that pause (pause_turn): continue them, up to 10 times, or keep them.  "
            "[default: continue]"
        ),
    ] = None
    on_refusal: Annotated[
        str | None,
        typer.Option(
            metavar="keep|fail|model:NAME",
            help="Answers that the model refused: keep them, fail, or call model NAME once.  "
            "[default: keep]",
        ),
    ] = None
    schema: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON Schema that the JSON of each answer must fit; results have it as `output`.",
        ),
    ] = None
    schema_tool: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Hold the input of this tool to --schema, not the text."),
    ] = None
    check: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Check answers by a function of NIGHTMILL_CHECKS."),
    ] = None
    check_retries: Annotated[
        int | None,
        typer.Option(
            min=0, max=20, help="How often a job is asked again that did not pass.  [default: 2]"
        ),
    ] = None
    check_reask: Annotated[
        Literal["turn", "same"] | None,
        typer.Option(
            help="Ask again with what is wrong as a further turn, or the same.  [default: turn]"
        ),
    ] = None
    structured: Annotated[
        bool,
        typer.Option(
            "--structured", help="Send --schema too, so that models that can hold to it do."
        ),
    ] = False

    def accepted(self) -> Accepted:
        """Return the keywords of `Batch.accept` that were given, checked.

        Raises SchemaError and InvalidAcceptanceError that name what is wrong.
        """
        from nightmill.records.acceptance import acceptance  # noqa: PLC0415 - `--help` stays fast

        given: Accepted = {}
        if self.schema is not None:
            given["schema"] = read_schema(self.schema)
        elif self.structured or self.schema_tool:
            name = "--structured" if self.structured else "--schema-tool"
            raise SettingsError(f"{name}: needs a schema; add --schema FILE")
        for name in _PLAIN:
            if (value := getattr(self, name)) is not None:
                given[name] = value
        if self.structured:
            given["structured"] = True
        acceptance(**given)
        return given


def read_schema(path: Path) -> object:
    """Return the JSON Schema in a file, which workers can use. Raises SchemaError."""
    from nightmill.checked.schema import MAX_BYTES, compiled  # noqa: PLC0415
    from nightmill.checked.shape import root_of  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SchemaError(f"--schema {path}: cannot be read: {error.strerror}") from None
    text = text.removeprefix(b"\xef\xbb\xbf")
    try:
        compiled(text)
    except SchemaError as error:
        raise SchemaError(f"--schema {path}: {error}") from None
    return root_of(text)


def require_check(accepted: Accepted, settings: Settings) -> None:
    """Raise SettingsError when the workers of a run would not have the check it names."""
    from nightmill.setting_values import read_checks  # noqa: PLC0415

    name, there = accepted.get("check"), read_checks(settings.checks)
    if name is not None and name not in there:
        known = ", ".join(there) or "none"
        raise SettingsError(
            f"--check {name}: no such check; NIGHTMILL_CHECKS has: {known}; "
            f"add {name}=module:function to it"
        )
