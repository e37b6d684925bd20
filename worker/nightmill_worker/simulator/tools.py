"""Examples that fit a JSON schema: inputs of tools, and structured outputs."""

from nightmill.checked.shape import resolved

MAX_DEPTH = 8
WORD = "mill"
FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "email": "mill@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
    "duration": "P1D",
}
Schema = dict[str, object]


def example_input(schema: Schema) -> dict[str, object]:
    """Return an object with the required properties, or with all if none is required."""
    return _object(schema, schema, 0, MAX_DEPTH)


def example(schema: Schema, draw: int = 0) -> object:
    """Return a value that fits a simple schema; `draw` chooses among the values of an enum."""
    return _example(schema, schema, draw, MAX_DEPTH)


def _object(schema: Schema, root: Schema, draw: int, depth: int) -> dict[str, object]:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or depth == 0:
        return {}
    required = schema.get("required") or list(properties)
    names = required if isinstance(required, list) else []
    return {
        str(name): _example(properties.get(name), root, draw // (place + 1), depth - 1)
        for place, name in enumerate(names)
    }


def _example(schema: object, root: Schema, draw: int, depth: int) -> object:
    """Return a value for one property; a property without a type becomes a word."""
    schema = resolved(schema, root)
    if not isinstance(schema, dict):
        return WORD
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][draw % len(schema["enum"])]
    for name in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(name), list) and schema[name] and depth > 0:
            return _example(schema[name][0], root, draw, depth - 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        return _example(schema | {"type": kind[0] if kind else None}, root, draw, depth)
    return _of_type(kind, schema, root, draw, depth)


def _of_type(kind: object, schema: Schema, root: Schema, draw: int, depth: int) -> object:
    match kind:
        case "object":
            return _object(schema, root, draw, depth)
        case "array":
            items = [_example(schema.get("items"), root, draw, depth - 1)] if depth > 0 else []
            least = schema.get("minItems")
            return items * max(1, least if isinstance(least, int) else 1)
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "string":
            word = FORMATS.get(str(schema.get("format")), WORD)
            most = schema.get("maxLength")
            return word[:most] if isinstance(most, int) else word
    return {"boolean": True, "null": None}.get(str(kind), WORD)
