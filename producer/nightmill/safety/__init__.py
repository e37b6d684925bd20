"""What must not leave: credentials in texts, files that others may read, terminal control."""
