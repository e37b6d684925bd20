"""Reads the outputs of a batch's results: by its acceptance, as JSON or as instances of a model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

from nightmill.checked.outputs import parsed_of
from nightmill.checked.schema import compiled
from nightmill.errors import ExtraMissingError, InvalidAcceptanceError, SchemaError
from nightmill.records.acceptance import DEFAULT, Acceptance, acceptance, from_text
from nightmill.records.state import JobState

if TYPE_CHECKING:
    from nightmill.records.acceptance import Accepted
    from nightmill.records.result import Result


class Model(Protocol):
    """A class of pydantic."""

    def model_json_schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""

    def model_validate(self, obj: Any, /) -> Any:  # noqa: ANN401 - as pydantic has it
        """Return an instance."""


SchemaGiven: TypeAlias = Mapping[str, object] | Model | type
"""A JSON Schema as a dict, or a class of pydantic."""


def schema_of(given: object) -> Mapping[str, object]:
    """Return the JSON Schema that `given` is or has.

    Raises SchemaError for one that workers could not use. Without the `checked` extra, only what
    the validator itself refuses is not noticed: a worker refuses it before it calls.
    """
    schema = given if isinstance(given, Mapping) else _of_model(given)
    try:
        text = msgspec.json.encode(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"schema: not JSON ({error}); give a JSON Schema") from None
    with suppress(ExtraMissingError):
        compiled(text)
    return schema


def _of_model(given: object) -> dict[str, Any]:
    make = getattr(given, "model_json_schema", None)
    if make is None:
        raise SchemaError(
            f"schema: given {given!r}; allowed: a dict (JSON Schema) or a class of pydantic"
        )
    schema: dict[str, Any] = make()
    return schema


def usable(given: Accepted) -> Accepted:
    """Return keywords of an acceptance with their schema as JSON Schema; see `schema_of`."""
    schema = given.get("schema")
    return given if schema is None else {**given, "schema": schema_of(schema)}


def accepted_as(text: str | None) -> Acceptance:
    """Return the acceptance of a batch as it is stored; the default one for what is no such text.

    A newer version may have written it: its results are read all the same.
    """
    with suppress(InvalidAcceptanceError):
        return from_text(text)
    return DEFAULT


class Outputs:
    """Reads the outputs of one batch; `model` makes instances of them."""

    def __init__(self, accept: Acceptance, model: SchemaGiven | None = None) -> None:
        """Take what the batch accepts, and the pydantic class that its reader has."""
        self._accept = accept
        self._make = None if isinstance(model, Mapping) else getattr(model, "model_validate", None)

    def of(self, result: Result) -> Any:  # noqa: ANN401 - any JSON value, or an instance
        """Return the output of `result`, None unless it succeeded."""
        if result.status is not JobState.SUCCEEDED:
            return None
        output = parsed_of(result.message, self._accept)
        return output if self._make is None or output is None else self._make(output)

    def read(self, result: Result) -> Result:
        """Let `result.parsed` be its output; return it."""
        return result.read_by(self.of) if self._accept.schema is not None else result


def by_schema(given: SchemaGiven) -> Outputs:
    """Return what reads outputs by a schema alone. Raises SchemaError."""
    return Outputs(acceptance(schema=schema_of(given)), given)
