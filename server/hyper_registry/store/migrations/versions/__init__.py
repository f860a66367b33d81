"""One module for each version of the schema; `revision` is its number."""
