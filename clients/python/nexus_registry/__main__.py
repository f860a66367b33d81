"""`python -m nexus_registry` is `nexus-registry`."""

from nexus_registry.cli import main

main()
