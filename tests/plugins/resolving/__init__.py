"""Tests of choosing versions that fit together."""
