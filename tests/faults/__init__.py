"""Crashes, faults and long runs: `make faults`."""
