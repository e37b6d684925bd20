"""Add the history of a row: its lane, time in the queue and in calls, reasons of snoozes."""

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; drop the version table of stores from before Alembic."""
    op.add_column("results", Column("lane", Text))
    op.add_column("results", Column("queue_ms", BigInteger))
    op.add_column("results", Column("call_ms", BigInteger, nullable=False, server_default="0"))
    op.add_column("results", Column("snooze_reasons", Text))
    op.execute("DROP TABLE IF EXISTS meta")
