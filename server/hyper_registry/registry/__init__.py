"""The log's writer and its first view: what is decided, and what is read."""
