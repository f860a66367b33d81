"""The oldest schema that is still read; new databases are not made by migrations."""

revision = "2"
down_revision = None


def upgrade() -> None:
    """Nothing comes before it."""
