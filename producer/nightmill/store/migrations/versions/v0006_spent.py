"""What replaced and deleted rows used, so that what a batch has spent never becomes less."""

from alembic import op
from sqlalchemy import Column, Float, Text

revision = "0006"
down_revision = "0005"

NAME = Text().with_variant(Text(collation="C"), "postgresql")
NUMBERS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cost",
    "unpriced",
    "answers",
)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "spent",
        Column("batch", NAME, primary_key=True),
        *(Column(name, Float, nullable=False) for name in NUMBERS),
        if_not_exists=True,
    )
