"""Tests of what plugins are made of: versions, requirements, resolving."""
