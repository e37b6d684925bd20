"""The API version and the betas of a job, so that `retry` asks for the same."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column."""
    op.add_column("results", Column("api", Text))
