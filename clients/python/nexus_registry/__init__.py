"""The command line programs of the Universal Registry.

`cli` is `nexus-registry`, `plugin_manager` is `nexus-plugin-manager`.
"""
