"""Where the log and the tables are kept: one contract, several engines."""

from hyper_registry.store.url import is_postgres, open_store, shown

__all__ = ["is_postgres", "open_store", "shown"]
