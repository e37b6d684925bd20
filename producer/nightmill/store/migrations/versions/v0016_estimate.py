"""Keeps what the jobs of a batch may cost, which is computed before any of them is called."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the column."""
    op.add_column("batches", sa.Column("estimate", sa.Text()))
