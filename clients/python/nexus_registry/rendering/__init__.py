"""How results look: JSON, YAML, tables, trees, diagrams, event lines."""
