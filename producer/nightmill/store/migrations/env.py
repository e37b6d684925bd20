"""Alembic runs this file: it migrates in the transaction of `nightmill.store.migrate`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
