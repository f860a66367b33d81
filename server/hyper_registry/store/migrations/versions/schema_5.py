"""What servers of one database agree by: who does what, and how often leases were renewed."""

from alembic import op

from hyper_registry.store import schema

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Two more tables."""
    for table in (schema.duties, schema.lease_renewals):
        table.create(op.get_bind())
