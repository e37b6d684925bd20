"""What Redis may lose of a batch, and the identity of the store."""

import uuid

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0003"
down_revision = "0002"

NAME = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables; give the store its identity."""
    op.create_table(
        "batches",
        Column("batch", NAME, primary_key=True),
        Column("state", Text, nullable=False),
        Column("total", BigInteger),
        Column("source", Text),
        Column("limits", Text),
        Column("updated_at", BigInteger, nullable=False),
    )
    meta = op.create_table(
        "meta",
        Column("name", NAME, primary_key=True),
        Column("value", Text, nullable=False),
    )
    op.bulk_insert(meta, [{"name": "identity", "value": uuid.uuid4().hex}])
