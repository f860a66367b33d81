"""The messages and stubs of the API, generated from `proto/` by `make generate`."""
