"""Every method's documented behaviour, through gRPC."""
