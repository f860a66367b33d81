"""Questions that the view is asked: the graph, listings, filters and page tokens."""
