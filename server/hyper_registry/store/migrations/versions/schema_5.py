"""What servers of one database agree by: who does what, and how often leases were renewed."""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Two more tables."""
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "duties",
        sa.Column("name", text, primary_key=True),
        sa.Column("holder", text, nullable=False),
        sa.Column("term", sa.BigInteger, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "lease_renewals",
        sa.Column("lease_id", text, primary_key=True),
        sa.Column("counter", sa.BigInteger, nullable=False),
    )
