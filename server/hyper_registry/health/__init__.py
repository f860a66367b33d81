"""Who is alive, and how well."""
