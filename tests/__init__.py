"""The tests. Each one's docstring states the behaviour that it proves."""
