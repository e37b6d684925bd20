"""The `results` table; a store from before Alembic has it already."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, Text, inspect

revision = "0001"
down_revision = None

NAME = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that sorts by its bytes, as in SQLite, so that both databases read in the same order."""


def upgrade() -> None:
    """Make the table, and an index for each order of reading it."""
    if inspect(op.get_bind()).has_table("results"):
        return
    op.create_table(
        "results",
        Column("job_id", NAME, primary_key=True),
        Column("run", Integer, nullable=False),
        Column("status", Text, nullable=False),
        Column("batch", NAME, nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("custom_id", Text),
        Column("model", Text),
        Column("request_hash", Text),
        Column("request_id", Text),
        Column("stop_reason", Text),
        Column("worker", Text),
        Column("attempt_count", Integer, nullable=False),
        Column("snooze_count", Integer, nullable=False),
        Column("input_tokens", BigInteger, nullable=False),
        Column("output_tokens", BigInteger, nullable=False),
        Column("cache_read_input_tokens", BigInteger, nullable=False),
        Column("cache_creation_input_tokens", BigInteger, nullable=False),
        Column("cost", Float),
        Column("enqueued_at", BigInteger, nullable=False),
        Column("started_at", BigInteger),
        Column("finished_at", BigInteger, nullable=False),
        Column("error", Text),
        Column("attempts", Text, nullable=False),
        Column("params", Text),
        Column("message", Text),
    )
    op.create_index("results_batch_seq", "results", ["batch", "seq", "job_id"])
    op.create_index("results_batch_finished", "results", ["batch", "finished_at", "job_id"])
    op.create_index("results_batch_status", "results", ["batch", "status"])
