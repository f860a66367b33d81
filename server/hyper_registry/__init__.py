"""The registry server: one log, many views. `docs/architecture.md` shows how a call flows."""

__version__ = "0.1.0"
