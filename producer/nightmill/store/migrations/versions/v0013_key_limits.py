"""The limits of a key, and the key that made a batch of the HTTP gateway."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("access_keys", Column("limits", Text))
    op.add_column("message_batches", Column("key_id", Text))
