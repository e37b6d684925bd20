"""Paid answers that a job goes on from, and what a batch accepts as a result."""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text

revision = "0007"
down_revision = "0006"

NAME = Text().with_variant(Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table and the columns."""
    op.create_table(
        "turns",
        Column("job_id", NAME, primary_key=True),
        Column("run", Integer, primary_key=True, autoincrement=False),
        Column("n", Integer, primary_key=True, autoincrement=False),
        Column("batch", NAME, nullable=False),
        Column("request_hash", Text, nullable=False),
        Column("why", Text, nullable=False),
        Column("problem", Text),
        Column("message", Text),
        Column("usage", Text, nullable=False),
        Column("usage_unknown", Integer, nullable=False),
        Column("bill", Text),
        Column("call", Integer, nullable=False),
        Column("at", BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.add_column("results", Column("turns", Integer, nullable=False, server_default="0"))
    op.add_column("batches", Column("accept", Text))
