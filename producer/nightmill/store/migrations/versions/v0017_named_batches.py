"""Finds a Message Batch by its id alone, without reading them all."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Make the index."""
    op.execute("CREATE INDEX IF NOT EXISTS message_batches_named ON message_batches (batch)")
