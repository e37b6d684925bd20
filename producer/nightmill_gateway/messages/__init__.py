"""One Message over HTTP: a durable job that its client waits for."""
