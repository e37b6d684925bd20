"""The versions of the schema; `nightmill.store.migrate` runs them."""
