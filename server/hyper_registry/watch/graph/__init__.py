"""Following answers about the graph: what enters them, changes in them and leaves them."""
