"""The content of a source that was fed whole: the same file again needs no reading."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("batches", Column("content", Text))
    op.add_column("batches", Column("requests", Text))
