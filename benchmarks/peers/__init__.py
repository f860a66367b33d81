"""The peers, a module each: how one is got, started, filled, and asked for each kind of work.

What is measured is a `Side` (base.py); the registry is one too. A side makes plans, and does not
carry them out: the load generator does, so that each is loaded in the same way. A peer that is not
to be had, or has nothing of a kind, says why, and the table has that.
"""
