"""One step of the schema a file; a step that was released is never edited."""
