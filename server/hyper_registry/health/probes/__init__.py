"""Active probes: the registry asks mesh services how they are, where it is allowed to."""
