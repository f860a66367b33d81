"""The command line programs of the Universal Registry.

`cli` is `nexus-registry`, `plugin_manager` is `nexus-plugin-manager`. `jsonform` turns messages
into JSON values and back, for whoever speaks the API's JSON; it imports nothing of the programs.
"""
