"""Following the log: who watches what, and the messages that they are sent."""
