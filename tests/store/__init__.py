"""The store contract, kept by every engine, and what is SQLite's alone."""
