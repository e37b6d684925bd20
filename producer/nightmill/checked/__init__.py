"""Checked outputs: the JSON value of an answer, held to a JSON Schema. Pure, bounded in time."""
