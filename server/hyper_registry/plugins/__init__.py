"""Plugins: what they are, what they need, and what that is bound to."""
