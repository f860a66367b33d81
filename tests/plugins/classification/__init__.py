"""Tests of how the feature of a plugin is told."""
