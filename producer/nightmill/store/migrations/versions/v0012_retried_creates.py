"""What recognises a create of a batch that a client sends again."""

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("message_batches", Column("digest", Text))
    op.add_column("message_batches", Column("idempotency_key", Text))
    op.add_column("message_batches", Column("answered_at", BigInteger))
