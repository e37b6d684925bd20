"""Example input for a tool, made from the tool's JSON schema."""

MAX_DEPTH = 6
WORD = "mill"
Schema = dict[str, object]


def example_input(schema: Schema) -> dict[str, object]:
    """Return an object with the required properties, or with all if none is required."""
    return _object(schema, MAX_DEPTH)


def _object(schema: Schema, depth: int) -> dict[str, object]:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or depth == 0:
        return {}
    required = schema.get("required") or list(properties)
    names = required if isinstance(required, list) else []
    return {str(name): _example(properties.get(name), depth - 1) for name in names}


def _example(schema: object, depth: int) -> object:
    """Return a value for one property; a property without a type becomes a word."""
    if not isinstance(schema, dict):
        return WORD
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    kind = schema.get("type")
    if isinstance(kind, list):
        return _example(schema | {"type": kind[0] if kind else None}, depth)
    return _of_type(kind, schema, depth)


def _of_type(kind: object, schema: Schema, depth: int) -> object:
    match kind:
        case "object":
            return _object(schema, depth)
        case "array":
            return [_example(schema.get("items"), depth - 1)] if depth > 0 else []
        case "integer" | "number":
            return schema.get("minimum", 1)
    return {"boolean": True, "null": None}.get(str(kind), WORD)
