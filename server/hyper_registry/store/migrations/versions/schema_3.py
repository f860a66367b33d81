"""More views. Those are made anew by every migration, so nothing is left to do."""

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """No table changed."""
