"""Tests of the grammars of versions and requirements."""
