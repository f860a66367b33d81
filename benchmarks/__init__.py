"""Benchmarks: each script measures one group of budgets, beside its peers in the same run."""
