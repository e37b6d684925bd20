"""Single jobs over HTTP, for services that poll."""
