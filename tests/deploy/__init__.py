"""What `deploy/` says, checked without a cluster."""
