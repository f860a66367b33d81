"""How the schema of an older version becomes the newest one, by Alembic."""
