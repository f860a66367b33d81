"""What happens around every call, whatever transport it came by."""
