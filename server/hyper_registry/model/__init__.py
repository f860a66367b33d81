"""What the registry is about, in plain Python: no transport, no database, no wire format."""
