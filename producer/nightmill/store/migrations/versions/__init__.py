"""The steps of the schema, one per file; a released step is never edited."""
