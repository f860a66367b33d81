"""One class per service of the API: parse, call, convert; no logic, and no transport.

A method takes the request message and its `Call`, and answers a message or the serialised form of
one.
"""
