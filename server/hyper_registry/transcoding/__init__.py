"""The API over HTTP, from the `google.api.http` annotations of its methods."""
