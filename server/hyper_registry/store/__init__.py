"""Where the log and the tables are kept: one contract, several engines."""

from hyper_registry.store.url import open_store

__all__ = ["open_store"]
