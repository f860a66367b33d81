"""Plugin manifests: documents, checks, values, finding and following."""
