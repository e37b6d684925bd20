"""What a row's cost is made of, so that a bill can be checked long after its prices changed."""

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0009"
down_revision = "0008"

COLUMNS = (
    Column("cache_creation_1h_input_tokens", BigInteger, nullable=False, server_default="0"),
    Column("web_search_requests", BigInteger, nullable=False, server_default="0"),
    Column("billed_as", Text),
    Column("cost_parts", Text),
)


def upgrade() -> None:
    """Add the columns."""
    for column in COLUMNS:
        op.add_column("results", column)
