"""The commands of `nexus-plugin-manager`."""
