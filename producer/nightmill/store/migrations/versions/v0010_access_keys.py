"""The keys of the HTTP gateway."""

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0010"
down_revision = "0009"

NAME = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "access_keys",
        Column("key_id", NAME, primary_key=True),
        Column("digest", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("role", Text, nullable=False),
        Column("tenant", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger),
        Column("revoked_at", BigInteger),
        if_not_exists=True,
    )
