"""Ways to discover what exists on a machine, each turned into records and dependency edges."""
