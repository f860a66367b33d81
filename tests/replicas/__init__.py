"""Several servers of one PostgreSQL."""
