"""Batches that come through the HTTP gateway, and their requests."""

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0011"
down_revision = "0010"

NAME = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "message_batches",
        Column("tenant", NAME, primary_key=True),
        Column("batch", NAME, primary_key=True),
        Column("total", BigInteger, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
        Column("anthropic_version", Text),
        Column("anthropic_beta", Text),
        Column("cancel_initiated_at", BigInteger),
        Column("ended_at", BigInteger),
        Column("succeeded", BigInteger),
        Column("errored", BigInteger),
        Column("canceled", BigInteger),
        Column("expired", BigInteger),
        Column("deleted_at", BigInteger),
        if_not_exists=True,
    )
    op.create_table(
        "requests",
        Column("batch", NAME, primary_key=True),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("custom_id", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("body", Text, nullable=False),
        if_not_exists=True,
    )
