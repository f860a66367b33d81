"""Which leases are held back, where every server can see it."""

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """One more column."""
    op.add_column(
        "lease_renewals", sa.Column("hold", sa.Integer, nullable=False, server_default="0")
    )
