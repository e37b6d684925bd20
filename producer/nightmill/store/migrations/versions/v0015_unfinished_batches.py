"""Finds the Message Batches that have not ended, or are to be removed, without reading them all."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Make the index."""
    op.execute(
        "CREATE INDEX IF NOT EXISTS message_batches_unfinished ON message_batches (batch) "
        "WHERE ended_at IS NULL OR deleted_at IS NOT NULL"
    )
